"""Markdown, code and LaTeX to safe HTML, also while the text grows.

It must not know conversations, Gradio or the model.
"""
