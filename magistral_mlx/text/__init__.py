"""Messages to token ids, and token ids to events: tokenizers, prompts, reasoning, tool calls.

Grammars and stop strings too. It must not know the model, KV or MLX.
"""
