"""The page: one Gradio component, whose scripts draw it and call functions on the server."""

from importlib.resources import files

import gradio as gr

from magistral_mlx.app.panels.calls import ServerCall
from magistral_mlx.app.panels.composer import composer_calls
from magistral_mlx.app.panels.conversation import conversation_calls
from magistral_mlx.app.panels.models import models_calls
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.panels.settings import settings_calls
from magistral_mlx.app.panels.sidebar import sidebar_calls
from magistral_mlx.app.scripts import Scripts

TITLE = "Magistral"
FONT = ("-apple-system", "BlinkMacSystemFont", "Inter", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Cascadia Mono", "DejaVu Sans Mono", "monospace")
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
"""Files of assets/styles/, in the order in which they apply."""

# Gradio runs this as a function of `element` and `server`: no module can be loaded any other way.
LOADER = """
const page = element.querySelector("#page");
import(new URL("{path}", document.baseURI))
  .then(({ begin }) => begin(server))
  .catch(({ message }) => {
    page.dataset.failed = "true";
    page.textContent =
      "The page could not be loaded. Reload it; if that does not help, restart magistral-mlx. " +
      `(${message})`;
  });
"""


def create_page(services: Services, scripts: Scripts) -> gr.Blocks:
    """The page over these services; `launch.page_app` mounts it.

    It serves no files, records nothing, and asks no other host for anything.
    """
    page: gr.Blocks
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            elem_id="magistral",
            html_template='<div class="page" id="page"></div>',
            head=f"<style>{_styles()}</style>",
            js_on_load=LOADER.replace("{path}", scripts.path("page.js")),
            apply_default_css=False,
            server_functions=server_functions(services),
        )
    return page


def page_theme() -> gr.themes.Base:
    """Our colours for Gradio's own parts, such as the sign-in form. Fetches no fonts."""
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


def _styles() -> str:
    folder = files("magistral_mlx.app") / "assets" / "styles"
    return "\n".join((folder / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)


def server_functions(services: Services) -> list[ServerCall]:
    """All that the scripts may call; assets/scripts/types.d.ts describes them."""
    return [
        *settings_calls(services),
        *sidebar_calls(services),
        *composer_calls(services),
        *conversation_calls(services),
        *models_calls(services),
    ]
