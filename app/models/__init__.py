"""The page's models: those that can be opened, the open one, conversion, what fits this machine.

It must not know Gradio or conversations.
"""
