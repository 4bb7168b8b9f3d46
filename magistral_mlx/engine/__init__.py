"""Runs requests: submit, cancel, and one thread that owns the model and every MLX array.

The scheduler decides what advances, a step is one forward of the model, a sequence is one stream
of tokens. It speaks token ids and must not know messages, HTTP, the terminal or the page.
"""
