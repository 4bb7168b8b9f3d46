"""Quality: how often a model answers correctly, measured so that users can repeat it.

It returns values and draws tables with rich. It must not know typer, the terminal or the server.
"""
