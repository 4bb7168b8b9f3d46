"""Dropped files that become part of a message: text, code, PDF.

It must not know conversations or Gradio.
"""
