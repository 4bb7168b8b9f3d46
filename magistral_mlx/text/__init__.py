"""Messages to token ids and token ids to events: prompt, tokenizers, reasoning, tool calls.

Grammars and stop strings are here too. It must not know the model, KV or MLX.
"""
