"""The command line of the converter: SOURCE [OUTPUT], verify, inspect and importance."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from magistral_mlx.convert.options import Converting
from magistral_mlx.convert.output.stored_model import open_stored
from magistral_mlx.convert.output.upload import check_repository_name, upload
from magistral_mlx.convert.progress import conversion_bar
from magistral_mlx.convert.report import print_tensors, print_verification
from magistral_mlx.convert.rounding.importance import write_importance
from magistral_mlx.convert.sources.open_source import open_source
from magistral_mlx.convert.verification import verify
from magistral_mlx.errors import UserError
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.spec import HUB_ID

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended: 128 and the signal's number."""


COMMANDS = ("convert", "verify", "inspect", "importance")

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Convert a Mistral checkpoint to a quantised MLX folder; verify and inspect folders.",
)


def main() -> None:
    """Run the converter's command line: the first word is a source unless it is a command."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in (*COMMANDS, "--help", "-h"):
        arguments = ["convert", *arguments]
    app(arguments, prog_name="python -m magistral_mlx.convert")


@app.command("convert")
@takes_groups
def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of the Hugging Face or the Mistral layout, GGUF file, OWNER/NAME on the "
            "Hub, or the word demo.",
        ),
    ] = HUB_ID,
    output: Annotated[
        Path | None,
        typer.Argument(
            help="Folder to write; by default one named from the source and the bits.",
            show_default=False,
        ),
    ] = None,
    *,
    upload_to: Annotated[
        str | None,
        typer.Option(
            "--upload", help="Put the result on the Hub as OWNER/NAME.", show_default=False
        ),
    ] = None,
    converting: Converting,
) -> None:
    """Convert a Mistral checkpoint to a quantised MLX folder, in a few hundred MB of memory.

    A run that is interrupted goes on where it was with the same command.
    """
    run_conversion(source, output, converting, upload_to=upload_to)


@app.command("verify")
def verify_command(
    folder: Annotated[Path, typer.Argument(help="A converted folder.", show_default=False)],
    source: Annotated[
        str | None,
        typer.Option(help="What it was made from: every weight is compared.", show_default=False),
    ] = None,
) -> None:
    """Check shapes, checksums, token ids and a short text; exits with 1 when something is wrong."""
    with _user_errors(_errors()), TemporaryDirectory() as scratch:
        opened = None if source is None else open_source(source, fetched=Path(scratch))
        found = verify(folder, source=opened)
    print_verification(found, _tables())
    if found.failed:
        raise typer.Exit(1)


@app.command("inspect")
def inspect_command(
    folder: Annotated[Path, typer.Argument(help="A converted folder.", show_default=False)],
) -> None:
    """List a folder's tensors: bits, sizes, and the error that the conversion measured."""
    with _user_errors(_errors()):
        stored = open_stored(folder)
    print_tensors(stored, _tables())


@app.command("importance")
def importance_command(
    source: Annotated[
        str, typer.Argument(help="What is to be converted, as for convert.", show_default=False)
    ],
    text: Annotated[Path, typer.Argument(help="A text file.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write.", show_default=False)
    ],
) -> None:
    """Run a text through a model, layer by layer, and note what its columns are worth.

    convert --importance takes the file.
    """
    errors = _errors()
    with _user_errors(errors), TemporaryDirectory() as scratch:
        opened = open_source(source, fetched=Path(scratch))
        tokens = write_importance(opened, text, output)
    errors.print(f"Measured on {tokens:,} tokens.")
    sys.stdout.write(f"{output}\n")


def run_conversion(
    source: str, output: Path | None, converting: Converting, *, upload_to: str | None = None
) -> None:
    """Convert with a bar on standard error, and write the folder's name to standard output."""
    errors = _errors()
    started = time.monotonic()
    with _user_errors(errors):
        if upload_to is not None:
            check_repository_name(upload_to)
        with conversion_bar(errors) as show:
            folder = converting.run(
                source,
                output,
                on_progress=show,
                on_note=lambda note: errors.print(note, markup=False),
            )
    size = sum(path.stat().st_size for path in folder.iterdir())
    seconds = time.monotonic() - started
    errors.print(
        f"Converted to {converting.kind}: {size / 1e9:.2f} GB in {seconds:.0f} seconds, at"
    )
    sys.stdout.write(f"{folder}\n")
    if upload_to is not None:
        with _user_errors(errors):
            errors.print(f"Uploaded to {upload(folder, upload_to)}")


def _tables() -> Console:
    console = Console(soft_wrap=True, highlight=False)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=120)


def _errors() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)


@contextmanager
def _user_errors(console: Console) -> Iterator[None]:
    """What was refused is one sentence and exit code 2, Ctrl-C is 130."""
    try:
        yield
    except UserError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        console.print("Interrupted. What is finished is kept: the same command goes on from there.")
        raise typer.Exit(INTERRUPTED) from None
