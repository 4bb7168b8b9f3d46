"""Gradio's own surfaces (the moment before the page is drawn, the sign-in form) in our colours."""

import gradio as gr

FONT = ("-apple-system", "BlinkMacSystemFont", "Inter", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Cascadia Mono", "DejaVu Sans Mono", "monospace")


def page_theme() -> gr.themes.Base:
    """System fonts only: no font is fetched from anywhere."""
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        font=[*FONT],
        font_mono=[*MONO],
    )
    return theme.set(
        body_background_fill="#fcfbf9",
        body_background_fill_dark="#191917",
        background_fill_primary="#fcfbf9",
        background_fill_primary_dark="#191917",
        background_fill_secondary="#fcfbf9",
        background_fill_secondary_dark="#191917",
        block_background_fill="#fcfbf9",
        block_background_fill_dark="#191917",
        block_border_width="0px",
        input_background_fill="#ffffff",
        input_background_fill_dark="#232320",
        input_border_color="#cfc9be",
        input_border_color_dark="#4b4b45",
        input_border_width="1px",
        input_radius="10px",
        body_text_color="#1f1e1b",
        body_text_color_dark="#ecebe6",
        button_primary_background_fill="#0b6b62",
        button_primary_background_fill_dark="#0b6b62",
        button_primary_text_color="#ffffff",
    )
