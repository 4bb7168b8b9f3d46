"""Reading checkpoints: Hugging Face and Mistral folders, GGUF files, repositories on the Hub.

It must not know how weights are rounded or written.
"""
