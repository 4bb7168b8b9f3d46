"""The command line of the converter."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from magistral_mlx.convert.progress_bar import convert_with_bar
from magistral_mlx.errors import UserError

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended: 128 and the signal's number."""


def main() -> None:
    """Run the converter's command line."""
    typer.run(convert_command)


def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of the Hugging Face or the Mistral layout, or the word demo.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Argument(
            help="Folder to write; by default one named from the source and the bits.",
            show_default=False,
        ),
    ] = None,
    bits: Annotated[int, typer.Option(help="Bits a weight: 2, 3, 4, 5, 6 or 8.")] = 4,
    group_size: Annotated[
        int, typer.Option(help="Weights that share a scale: 32, 64 or 128.")
    ] = 64,
    dtype: Annotated[
        str, typer.Option(help="Type of scales and norms: bfloat16, float16 or float32.")
    ] = "bfloat16",
    force: Annotated[bool, typer.Option("--force", help="Replace an older output.")] = False,
) -> None:
    """Convert a Mistral checkpoint to a quantised MLX folder, in a few hundred MB of memory."""
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    started = time.monotonic()
    try:
        folder = convert_with_bar(
            source,
            output,
            bits=bits,
            group_size=group_size,
            dtype=dtype,
            force=force,
            console=errors,
        )
    except UserError as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        errors.print("Interrupted: nothing was written. The same command starts again.")
        raise typer.Exit(INTERRUPTED) from None
    size = sum(path.stat().st_size for path in folder.iterdir())
    seconds = time.monotonic() - started
    errors.print(f"Converted to {bits} bits: {size / 1e9:.2f} GB in {seconds:.0f} seconds, at")
    sys.stdout.write(f"{folder}\n")
