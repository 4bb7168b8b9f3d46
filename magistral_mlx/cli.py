"""The command line: magistral-mlx ask | chat | plan | convert | eval | cache | demo."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from magistral_mlx import EngineError, GenerationOptions
from magistral_mlx import cli_options as opt
from magistral_mlx.conversation import Message
from magistral_mlx.convert.cli import convert_command
from magistral_mlx.errors import RequestError, UserError
from magistral_mlx.evaluation.cli import eval_command
from magistral_mlx.folders import state_folder
from magistral_mlx.kv_folder import kv_folder
from magistral_mlx.sampling import SamplingParams
from magistral_mlx.spec import HUB_ID
from magistral_mlx.terminal.ask import AskOutput, run_ask
from magistral_mlx.terminal.chat import prompt_line, run_chat
from magistral_mlx.terminal.chat_session import ChatSession
from magistral_mlx.terminal.demo import run_demo
from magistral_mlx.terminal.kv_files import run_cache_clear, run_cache_list
from magistral_mlx.terminal.opening import Opening, open_chosen, open_demo
from magistral_mlx.terminal.plan import run_plan, run_plan_of_macs
from magistral_mlx.version import VERSION

FAILED, REFUSED, INTERRUPTED = 1, 2, 130
"""Exit codes: the engine failed, the input was refused (as for a wrong option), Ctrl-C."""

app = typer.Typer(
    name="magistral-mlx",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

cache_app = typer.Typer(
    no_args_is_help=True, help="The prompts that --kv-disk keeps: list and remove them."
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
def ask(
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="What to ask; - reads it from standard input.")
    ],
    model: opt.Model = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object when the reply is complete.")
    ] = False,
    show_reasoning: Annotated[
        bool | None,
        typer.Option(
            "--show-reasoning/--hide-reasoning",
            help="By default shown on a terminal only. In a pipe it goes to standard error.",
            show_default=False,
        ),
    ] = None,
    system: opt.System = None,
    system_mode: opt.SystemMode = "compose",
    reasoning: opt.ReasoningMode = "auto",
    think: opt.Think = None,
    max_tokens: opt.MaxTokens = None,
    temperature: opt.Temperature = opt.DEFAULT_TEMPERATURE,
    top_p: opt.TopP = opt.DEFAULT_TOP_P,
    top_k: opt.TopK = 0,
    min_p: opt.MinP = 0.0,
    seed: opt.Seed = None,
    max_context: opt.MaxContext = None,
    dtype: opt.ComputeDtype = None,
    kv_bits: opt.KVBits = None,
    kv_start: opt.KVStart = 0,
    kv_disk: opt.KVDisk = None,
    wired: opt.Wired = False,
) -> None:
    """Ask one question. In a pipe, standard output gets the answer alone."""
    console, errors = _consoles()
    with _exit_codes(errors):
        options = GenerationOptions(
            sampling=SamplingParams(
                temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed
            ),
            max_tokens=max_tokens,
            thinking_budget=think,
            reasoning=reasoning,
            system=system_mode,
        )
        messages = [Message("system", system)] if system else []
        messages.append(Message("user", _question(question)))
        opening = Opening(
            max_context=max_context,
            dtype=dtype,
            kv_bits=kv_bits,
            kv_start=kv_start,
            kv_disk=kv_disk,
            wired=wired,
        )
        with open_chosen(model, opening, errors=errors) as opened:
            completed = run_ask(
                opened,
                messages,
                options,
                output=AskOutput(as_json=as_json, show_reasoning=show_reasoning),
                console=console,
                errors=errors,
            )
        if not completed:
            raise typer.Exit(INTERRUPTED)


@app.command()
def chat(
    model: opt.Model = None,
    system: opt.System = None,
    system_mode: opt.SystemMode = "compose",
    reasoning: opt.ReasoningMode = "auto",
    think: opt.Think = None,
    max_tokens: opt.MaxTokens = None,
    temperature: opt.Temperature = opt.DEFAULT_TEMPERATURE,
    top_p: opt.TopP = opt.DEFAULT_TOP_P,
    top_k: opt.TopK = 0,
    min_p: opt.MinP = 0.0,
    seed: opt.Seed = None,
    max_context: opt.MaxContext = None,
    dtype: opt.ComputeDtype = None,
    kv_bits: opt.KVBits = None,
    kv_start: opt.KVStart = 0,
    kv_disk: opt.KVDisk = None,
    wired: opt.Wired = False,
) -> None:
    """Talk to the model. /help inside lists the commands; Ctrl-C stops an answer."""
    console, errors = _consoles()
    with _exit_codes(errors):
        if not (console.is_terminal and sys.stdin.isatty()):
            raise RequestError("chat needs a terminal: in a pipe, use magistral-mlx ask.")
        options = GenerationOptions(
            sampling=SamplingParams(
                temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed
            ),
            max_tokens=max_tokens,
            thinking_budget=think,
            reasoning=reasoning,
            system=system_mode,
        )
        opening = Opening(
            max_context=max_context,
            dtype=dtype,
            kv_bits=kv_bits,
            kv_start=kv_start,
            kv_disk=kv_disk,
            wired=wired,
        )
        with open_chosen(model, opening, errors=errors) as opened:
            run_chat(
                opened,
                ChatSession(options, system=system),
                console=console,
                read_line=prompt_line(state_folder() / "chat_history"),
            )


@app.command()
def plan(
    model: Annotated[
        str | None,
        typer.Option(help="A converted model, as for ask.", show_default=f"{HUB_ID} at 4 bits"),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Plan for a Mac of this size, as 32GB.", show_default="this machine"),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Tokens that prompt and reply may hold.", show_default="what fits"),
    ] = None,
    kv_bits: opt.KVBits = None,
    sequences: Annotated[
        int, typer.Option(min=1, help="Replies at once, each with a full window.")
    ] = 1,
    macs: Annotated[
        bool, typer.Option("--macs", help="One line for every Mac that is sold.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, in bytes.")] = False,
) -> None:
    """Show what fits: weights, KV cache at 16, 8 and 4 bits, activations, headroom."""
    console, errors = _consoles()
    with _exit_codes(errors):
        if macs and memory is not None:
            raise RequestError("--macs shows every size: leave --memory out, or --macs.")
        run = run_plan_of_macs if macs else partial(run_plan, memory=memory)
        run(
            model,
            window=window,
            kv_bits=kv_bits,
            sequences=sequences,
            as_json=as_json,
            console=console,
        )


@app.command()
def demo() -> None:
    """Convert the small model that comes with the package, and ask it two questions."""
    console, errors = _consoles()
    with _exit_codes(errors):
        with open_demo(errors=errors) as opened:
            completed = run_demo(opened, console=console, errors=errors)
        if not completed:
            raise typer.Exit(INTERRUPTED)


app.command("convert")(convert_command)
app.command("eval")(eval_command)
app.add_typer(cache_app, name="cache")


@cache_app.command("list")
def cache_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the prompts that are kept on disk: of which model, how long, how large."""
    console, errors = _consoles()
    with _exit_codes(errors):
        run_cache_list(kv_folder(), as_json=as_json, console=console)


@cache_app.command("clear")
def cache_clear(
    model: Annotated[
        str | None,
        typer.Option(help="A name that cache list shows, or a Hub id.", show_default="all models"),
    ] = None,
) -> None:
    """Remove the prompts that are kept on disk."""
    console, errors = _consoles()
    with _exit_codes(errors):
        run_cache_clear(kv_folder(), model=model, console=console)


def _consoles() -> tuple[Console, Console]:
    return Console(), Console(stderr=True, soft_wrap=True, highlight=False)


@contextmanager
def _exit_codes(errors: Console) -> Iterator[None]:
    """Refusals and failures become one message and an exit code; typer maps Ctrl-C and EPIPE."""
    try:
        yield
    except UserError as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(REFUSED) from error
    except EngineError as error:
        errors.print(f"The generation failed: {error}", markup=False)
        raise typer.Exit(FAILED) from error


def _question(argument: str) -> str:
    text = sys.stdin.read() if argument == "-" else argument
    if not text.strip():
        raise RequestError("The question is empty: write it after ask, or pipe it in with -.")
    return text
