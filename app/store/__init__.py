"""Conversations on this machine: the database, branches, search, import and export.

It must not know Gradio or the model.
"""
