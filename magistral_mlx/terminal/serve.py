"""The command that serves the model."""

from importlib.util import find_spec
from typing import Annotated

import typer

from magistral_mlx.errors import RequestError
from magistral_mlx.folders import data_folder
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.server.serving_options import Serving
from magistral_mlx.terminal import command_options as opt
from magistral_mlx.terminal.exit_codes import consoles, exit_codes
from magistral_mlx.terminal.opening import OpeningOptions

Page = Annotated[
    bool | None,
    typer.Option(
        "--page/--no-page",
        help="Show the page at the root, for those who may use the server.",
        show_default="where it is installed",
    ),
]


@takes_groups
def serve_command(
    *,
    model: opt.Model = None,
    serving: Serving,
    page: Page = None,
    data_dir: opt.DataDir = None,
    no_history: opt.NoHistory = False,
    opening: OpeningOptions,
) -> None:
    """Serve the model to OpenAI's and Anthropic's clients, at http://127.0.0.1:8000/v1."""
    _, errors = consoles()
    with exit_codes(errors):
        _check_extra()
        # FastAPI and the clients' types are an extra, and take a second to import.
        from magistral_mlx.server.logs import configure_logging
        from magistral_mlx.server.open_for_serving import serve_chosen

        settings = serving.settings()
        configure_logging()
        serve_chosen(
            model,
            opening.opening(),
            settings,
            page=_has_page(page),
            page_folder=None if no_history else (data_dir or data_folder()).expanduser(),
        )


def _has_page(wanted: bool | None) -> bool:
    installed = find_spec("gradio") is not None
    if wanted and not installed:
        raise RequestError("The page needs gradio: pip install 'magistral-mlx[app]'.")
    return installed if wanted is None else wanted


def _check_extra() -> None:
    missing = [
        name
        for name in ("fastapi", "uvicorn", "openai", "anthropic", "prometheus_client")
        if find_spec(name) is None
    ]
    if missing:
        raise RequestError(
            f"The server needs {', '.join(missing)}: install it with "
            "pip install 'magistral-mlx[serve]'."
        )
