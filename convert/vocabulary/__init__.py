"""The tokenizer of a checkpoint, as tekken.json and tokenizer.json. It must not know weights."""
