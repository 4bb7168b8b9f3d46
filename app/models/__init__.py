"""The models that the page offers: found, opened, converted, and what fits this machine.

It must not know Gradio.
"""
