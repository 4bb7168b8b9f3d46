"""Runs requests: one thread owns the model and every MLX array, another emits events.

The scheduler decides what advances, a step is one forward pass, a sequence is one stream of
tokens. It must not know messages, HTTP, the terminal or the page.
"""
