"""The page: a chat in the browser, with the reasoning beside the answer.

Imported as magistral_mlx.app. page.py is what Gradio shows, launch.py serves it.
It must not know the server or the terminal.
"""
