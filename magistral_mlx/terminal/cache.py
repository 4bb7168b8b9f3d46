"""The commands that list and remove the prompts on disk."""

from typing import Annotated

import typer

from magistral_mlx.terminal.exit_codes import consoles, exit_codes
from magistral_mlx.kv.disk.folder import kv_folder
from magistral_mlx.terminal.kv_files import run_cache_clear, run_cache_list

cache_app = typer.Typer(
    no_args_is_help=True, help="The prompts that --kv-disk keeps: list and remove them."
)


@cache_app.command("list")
def cache_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the prompts that are kept on disk: of which model, how long, how large."""
    console, errors = consoles()
    with exit_codes(errors):
        run_cache_list(kv_folder(), as_json=as_json, console=console)


@cache_app.command("clear")
def cache_clear(
    model: Annotated[
        str | None,
        typer.Option(help="A name that cache list shows, or a Hub id.", show_default="all models"),
    ] = None,
) -> None:
    """Remove the prompts that are kept on disk."""
    console, errors = consoles()
    with exit_codes(errors):
        run_cache_clear(kv_folder(), model=model, console=console)
