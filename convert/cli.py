"""The command line of the converter: SOURCE [OUTPUT], verify, inspect and importance."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from huggingface_hub import HfApi
from rich.console import Console

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert.conversion import convert
from magistral_mlx.convert.options import ConversionOptions
from magistral_mlx.convert.output.manifest import open_stored
from magistral_mlx.convert.progress import conversion_bar
from magistral_mlx.convert.report import print_tensors, print_verification
from magistral_mlx.convert.rounding.importance import write_importance
from magistral_mlx.convert.sources.hub import hub_errors
from magistral_mlx.convert.sources.open_source import open_source
from magistral_mlx.convert.verification import verify
from magistral_mlx.errors import CheckpointError, UserError
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.spec import HUB_ID

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 plus the signal's number."""

COMMANDS = ("convert", "verify", "inspect", "importance")

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Convert a Mistral checkpoint to a quantised MLX folder; verify and inspect folders.",
)


def main() -> None:
    """Run the command line. A first argument that is not a command is a source to convert."""
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
            help="Folder (Hugging Face or Mistral layout), GGUF file, OWNER/NAME on the Hub, or "
            "demo.",
        ),
    ] = HUB_ID,
    output: Annotated[
        Path | None,
        typer.Argument(
            help="Output folder; by default, named from the source and the bits.",
            show_default=False,
        ),
    ] = None,
    *,
    upload_to: Annotated[
        str | None,
        typer.Option(
            "--upload", help="Upload the result to the Hub as OWNER/NAME.", show_default=False
        ),
    ] = None,
    options: ConversionOptions,
) -> None:
    """Convert a Mistral checkpoint to a quantised MLX folder, in a few hundred MB of memory.

    After an interruption, the same command resumes.
    """
    run_conversion(source, output, options, upload_to=upload_to)


@app.command("verify")
def verify_command(
    folder: Annotated[Path, typer.Argument(help="A converted folder.", show_default=False)],
    source: Annotated[
        str | None,
        typer.Option(help="The original checkpoint, to compare every weight.", show_default=False),
    ] = None,
) -> None:
    """Check shapes, checksums, token ids and a short generation; exit code 1 if one is wrong."""
    with _user_errors(), TemporaryDirectory() as scratch:
        opened = None if source is None else open_source(source, fetched=Path(scratch))
        found = verify(folder, source=opened)
    print_verification(found, _tables())
    if found.failed:
        raise typer.Exit(1)


@app.command("inspect")
def inspect_command(
    folder: Annotated[Path, typer.Argument(help="A converted folder.", show_default=False)],
) -> None:
    """List a folder's tensors: bits, sizes, and errors measured by the conversion."""
    with _user_errors():
        stored = open_stored(folder)
    print_tensors(stored, _tables())


@app.command("importance")
def importance_command(
    source: Annotated[str, typer.Argument(help="The source, as for convert.", show_default=False)],
    text: Annotated[Path, typer.Argument(help="Calibration text.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write.", show_default=False)
    ],
) -> None:
    """Compute an importance matrix from a text, layer by layer, for convert --importance."""
    with _user_errors() as errors, TemporaryDirectory() as scratch:
        opened = open_source(source, fetched=Path(scratch))
        tokens = write_importance(opened, text, output)
        errors.print(f"Computed from {tokens:,} tokens:")
    sys.stdout.write(f"{output}\n")


def run_conversion(
    source: str, output: Path | None, options: ConversionOptions, *, upload_to: str | None = None
) -> None:
    """Convert with a progress bar on stderr, and print the folder to stdout."""
    started = time.monotonic()
    with _user_errors() as errors:
        if upload_to is not None:
            check_repository_name(upload_to)
        with conversion_bar(errors) as show:
            folder = convert(
                source,
                output,
                options,
                on_progress=show,
                on_note=lambda note: errors.print(note, markup=False),
            )
        size = sum(path.stat().st_size for path in folder.iterdir())
        seconds = time.monotonic() - started
        kind = options.recipe or f"{options.bits} bits"
        errors.print(f"Converted to {kind}: {size / 1e9:.2f} GB in {seconds:.0f} seconds:")
        sys.stdout.write(f"{folder}\n")
        if upload_to is not None:
            errors.print(f"Uploaded to {upload(folder, upload_to)}")


def upload(folder: Path, repository: str) -> str:
    """Upload a converted folder to OWNER/NAME on the Hub, and return its address.

    Creates the repository if needed, and skips files that it already has. Raises CheckpointError
    when the folder is damaged or the Hub refuses.
    """
    open_checkpoint(folder)
    with hub_errors(repository, None):
        api = HfApi()
        address = api.create_repo(repository, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            commit_message=f"Upload {folder.name}, converted for MLX",
        )
    return str(address)


def check_repository_name(repository: str) -> None:
    """Refuse a wrong name before hours of work. Raises CheckpointError."""
    owner, _, name = repository.partition("/")
    if not owner or not name or "/" in name:
        raise CheckpointError(f"{repository!r} is not a repository's name: give OWNER/NAME.")


def _tables() -> Console:
    console = Console(soft_wrap=True, highlight=False)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=120)


@contextmanager
def _user_errors() -> Iterator[Console]:
    """Print a UserError as one sentence and exit with 2; exit with 130 after Ctrl-C."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        yield console
    except UserError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        console.print("Interrupted. What is finished is kept: the same command resumes.")
        raise typer.Exit(INTERRUPTED) from None
