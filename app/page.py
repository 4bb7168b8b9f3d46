"""The page: one Gradio component, whose script draws it and calls functions on the server."""

from importlib.resources import files

import gradio as gr

from magistral_mlx.app.panels.calls import ServerCall
from magistral_mlx.app.panels.composer import composer_calls
from magistral_mlx.app.panels.conversation_panel import conversation_calls
from magistral_mlx.app.panels.models import models_calls
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.panels.settings import settings_calls
from magistral_mlx.app.panels.sidebar import sidebar_calls

TITLE = "Magistral"
STYLES = (
    "palette",
    "layout",
    "sidebar",
    "turns",
    "reasoning",
    "chains",
    "written",
    "composer",
    "gauges",
    "panels",
    "models",
)
SCRIPTS = (
    "elements",
    "icons",
    "words",
    "server",
    "notices",
    "sidebar",
    "chain",
    "turns",
    "live",
    "composer",
    "files",
    "gauges",
    "settings",
    "models",
    "shortcuts",
    "page",
)
"""Files of assets/, in the order in which the browser gets them."""
FOLDERS = {"css": "styles", "js": "scripts"}


def create_page(services: Services) -> gr.Blocks:
    """The page over these services; mount it with `launch.mount_page`.

    It serves no files, records nothing, and asks no other host for anything.
    """
    page: gr.Blocks
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            elem_id="magistral",
            html_template='<div class="page" id="page"></div>',
            head=f"<style>{_joined('css', STYLES)}</style>",
            js_on_load=f'"use strict";\n{_joined("js", SCRIPTS)}',
            apply_default_css=False,
            server_functions=_server_functions(services),
        )
    return page


def _server_functions(services: Services) -> list[ServerCall]:
    return [
        *settings_calls(services),
        *sidebar_calls(services),
        *composer_calls(services),
        *conversation_calls(services),
        *models_calls(services),
    ]


def _joined(kind: str, names: tuple[str, ...]) -> str:
    folder = files("magistral_mlx.app") / "assets" / FOLDERS[kind]
    return "\n".join((folder / f"{name}.{kind}").read_text(encoding="utf-8") for name in names)
