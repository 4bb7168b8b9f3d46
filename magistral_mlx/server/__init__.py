"""The HTTP server: what OpenAI's and Anthropic's clients expect, over one open model.

It may show the page beside its APIs. It must not know the terminal or how the page is made.
"""
