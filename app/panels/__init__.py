"""What the page consists of: composer, conversation, sidebar, settings, models.

Gradio components and their callbacks live here.
"""
