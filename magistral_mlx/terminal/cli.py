"""The command line: magistral-mlx and its commands."""

import sys
from typing import Annotated

import typer

from magistral_mlx.convert.cli import convert_command
from magistral_mlx.spec import VERSION
from magistral_mlx.terminal.ask import ask_command
from magistral_mlx.terminal.bench import bench_command
from magistral_mlx.terminal.cache import cache_app
from magistral_mlx.terminal.chat import chat_command
from magistral_mlx.terminal.demo import demo_command
from magistral_mlx.terminal.evaluate import eval_command
from magistral_mlx.terminal.plan import plan_command
from magistral_mlx.terminal.serve import page_command, serve_command


def _current_name(name: str) -> str:
    """The name of an option: --window was once called --max-context."""
    return "window" if name == "max-context" else name


app = typer.Typer(
    name="magistral-mlx",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": _current_name},
)


def main() -> None:
    """Run the command line."""
    app(prog_name="magistral-mlx")


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"magistral-mlx {VERSION}\n")
        raise typer.Exit


@app.callback()
def start(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Run Mistral's Magistral Small on Apple Silicon, and see its reasoning beside its answer."""


app.command("demo")(demo_command)
app.command("ask")(ask_command)
app.command("chat")(chat_command)
app.command("app")(page_command)
app.command("serve")(serve_command)
app.command("plan")(plan_command)
app.command("convert")(convert_command)
app.command("eval")(eval_command)
app.command("bench")(bench_command)
app.add_typer(cache_app, name="cache")
