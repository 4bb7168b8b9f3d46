"""Anthropic's API: messages and their stream.

It must not know OpenAI's routes.
"""
