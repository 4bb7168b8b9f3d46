"""Answers in progress: one run a question, its chains, votes and snapshots.

It must not know Gradio.
"""
