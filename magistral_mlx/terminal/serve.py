"""The commands that serve the model: app for people, serve for programs."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated

import typer

from magistral_mlx.errors import RequestError, check_extra
from magistral_mlx.folders import data_folder
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.ranks.launch import find_launch
from magistral_mlx.server.answering.settings import MB, ServerSettings
from magistral_mlx.terminal.command_options import DataDir, Model, NoHistory, OpeningOptions
from magistral_mlx.terminal.console import consoles, exit_codes

PAGE_MODULES = ("gradio", "pypdf", "markdown_it", "mdit_py_plugins", "latex2mathml", "pygments")
SERVER_MODULES = ("fastapi", "uvicorn", "openai", "anthropic", "prometheus_client")


@takes_groups
def page_command(
    *,
    model: Model = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; --auth is required if others can reach it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 7860,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="USER:PASSWORD", help="Ask for this name and password.", show_default="none"
        ),
    ] = None,
    data_dir: DataDir = None,
    no_history: NoHistory = False,
    show: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open",
            help="Open the page in the browser. By default only when run in a terminal.",
            show_default=False,
        ),
    ] = None,
    opening: OpeningOptions,
) -> None:
    """Serve the page, which shows reasoning and answer side by side."""
    console, errors = consoles()
    with exit_codes(errors):
        if find_launch(os.environ) is not None:
            raise RequestError(
                "app cannot run on several ranks, because the page switches between models: use "
                "magistral-mlx serve, which shows the page too."
            )
        check_extra("The page", PAGE_MODULES, extra="app")
        from magistral_mlx.app.launch import PageOptions, run_page

        options = PageOptions(
            model=model,
            host=host,
            port=port,
            auth=auth,
            data_dir=data_dir,
            history=not no_history,
            show=console.is_terminal if show is None else show,
        )
        run_page(options, opening.opening(), console=console)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """The options of `serve` that set up the server itself."""

    host: Annotated[
        str, typer.Option(help="Address to listen on; other machines' access needs a key.")
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            "--api-key",
            envvar="MAGISTRAL_MLX_API_KEY",
            help="A key that clients must send. Repeat it for several keys, or separate them by "
            "spaces in the variable. Other users of this machine can see a command line, but not "
            "the variable.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve other machines without a key.")
    ] = False
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin",
            help="Origin of a web page that may call the server, such as https://example.org.",
            show_default=False,
        ),
    ] = None
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            help="A host name to accept besides the machine's own; * for any.",
            show_default=False,
        ),
    ] = None
    alias: Annotated[
        list[str] | None,
        typer.Option(
            "--alias", help="Another model name to accept in requests.", show_default=False
        ),
    ] = None
    queue: Annotated[
        int, typer.Option(help="Maximum number of waiting requests, besides the running ones.")
    ] = 64
    per_key: Annotated[
        int | None,
        typer.Option(
            "--per-key", help="Maximum number of requests per key at once.", show_default="no limit"
        ),
    ] = None
    timeout: Annotated[float, typer.Option(help="Cut an answer off after this many seconds.")] = (
        3600
    )
    grace: Annotated[
        float, typer.Option(help="When stopping, seconds for running answers to finish.")
    ] = 30
    max_body: Annotated[
        int, typer.Option("--max-body", help="Largest request body, in megabytes.")
    ] = 16
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Write messages and prompts to the log.")
    ] = False

    def settings(self) -> ServerSettings:
        """The server's settings. Raises RequestError if they are unsafe or out of range."""
        return ServerSettings(
            host=self.host,
            port=self.port,
            api_keys=tuple(key for given in self.api_key or () for key in given.split()),
            insecure=self.insecure,
            cors_origins=tuple(self.cors_origin or ()),
            allowed_hosts=tuple(self.allow_host or ()),
            aliases=tuple(self.alias or ()),
            queue=self.queue,
            per_key=self.per_key,
            request_timeout=self.timeout,
            grace=self.grace,
            max_body_bytes=self.max_body * MB,
            log_prompts=self.log_prompts,
        )


@takes_groups
def serve_command(
    *,
    model: Model = None,
    serving: ServingOptions,
    page: Annotated[
        bool | None,
        typer.Option(
            "--page/--no-page",
            help="Also serve the page, at /, with the same access control.",
            show_default="if gradio is installed",
        ),
    ] = None,
    data_dir: DataDir = None,
    no_history: NoHistory = False,
    opening: OpeningOptions,
) -> None:
    """Serve the model to OpenAI's and Anthropic's clients, at http://127.0.0.1:8000/v1."""
    _, errors = consoles()
    with exit_codes(errors):
        check_extra("The server", SERVER_MODULES, extra="serve")
        # FastAPI and the clients' types are an extra, and take a second to import.
        from magistral_mlx.server.serving import serve_chosen

        serve_chosen(
            model,
            opening.opening(),
            serving.settings(),
            page=_has_page(page),
            page_folder=None if no_history else (data_dir or data_folder()).expanduser(),
        )


def _has_page(wanted: bool | None) -> bool:
    if wanted:
        check_extra("The page", PAGE_MODULES, extra="app")
    return find_spec("gradio") is not None if wanted is None else wanted
