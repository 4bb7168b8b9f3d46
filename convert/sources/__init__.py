"""Where weights come from: Hugging Face and Mistral folders, GGUF files, the Hub.

It must not know how weights are rounded or written.
"""
