"""Conversations on this machine: the database, branches, search, titles, import and export.

It must not know Gradio or the model.
"""
