"""The calls of the page's script, by the part of the page that makes them.

Composer, conversation, sidebar, settings, models. It must not know Gradio: page.py offers its calls
to the browser.
"""
