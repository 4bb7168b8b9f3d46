"""The command line: magistral-mlx ask | chat | app | serve | plan | convert | eval | bench | …"""

import sys
from typing import Annotated

import typer

from magistral_mlx.convert.cli import convert_command
from magistral_mlx.spec import VERSION
from magistral_mlx.terminal.asking import ask_command, chat_command
from magistral_mlx.terminal.bench import bench_command
from magistral_mlx.terminal.demo import run_demo
from magistral_mlx.terminal.evaluate import eval_command
from magistral_mlx.terminal.exit_codes import INTERRUPTED, consoles, exit_codes
from magistral_mlx.terminal.kv_files import cache_app
from magistral_mlx.terminal.opening import open_demo
from magistral_mlx.terminal.page import page_command
from magistral_mlx.terminal.planning import plan_command
from magistral_mlx.terminal.serve import serve_command


def _today(name: str) -> str:
    """The name that an option has today: --window was --max-context once."""
    return "window" if name == "max-context" else name


app = typer.Typer(
    name="magistral-mlx",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": _today},
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
    """Magistral Small on Apple Silicon: the model's reasoning, and its answer."""


@app.command()
def demo() -> None:
    """Convert the small model that comes with the package, and ask it two questions."""
    console, errors = consoles()
    with exit_codes(errors):
        with open_demo(errors=errors) as opened:
            completed = run_demo(opened, console=console, errors=errors)
        if not completed:
            raise typer.Exit(INTERRUPTED)


app.command("ask")(ask_command)
app.command("chat")(chat_command)
app.command("app")(page_command)
app.command("serve")(serve_command)
app.command("plan")(plan_command)
app.command("convert")(convert_command)
app.command("eval")(eval_command)
app.command("bench")(bench_command)
app.add_typer(cache_app, name="cache")
