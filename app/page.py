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
    """The page over these services; mount it with `launch.mount_page`.

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
