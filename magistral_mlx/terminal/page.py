"""The command that serves the page."""

import os
from typing import Annotated

import typer

from magistral_mlx.errors import RequestError
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.ranks.launch import find_launch
from magistral_mlx.terminal import command_options as opt
from magistral_mlx.terminal.exit_codes import consoles, exit_codes
from magistral_mlx.terminal.opening import OpeningOptions


@takes_groups
def page_command(
    *,
    model: opt.Model = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; anything but this machine needs --auth.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 7860,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="USER:PASSWORD", help="What the page asks for.", show_default="nothing"
        ),
    ] = None,
    data_dir: opt.DataDir = None,
    no_history: opt.NoHistory = False,
    show: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open",
            help="Open the page in the browser; by default where there is a terminal.",
            show_default=False,
        ),
    ] = None,
    opening: OpeningOptions,
) -> None:
    """Serve the page: reasoning and answer, side by side."""
    console, errors = consoles()
    with exit_codes(errors):
        if find_launch(os.environ) is not None:
            raise RequestError(
                "The page opens one model after another, which several ranks cannot: use "
                "magistral-mlx serve, which shows the page too."
            )
        try:
            from magistral_mlx.app.command import PageOptions, run_page
        except ModuleNotFoundError as error:
            raise RequestError(
                f"The page needs {error.name}: pip install 'magistral-mlx[app]'."
            ) from error
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
