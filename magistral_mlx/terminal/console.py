"""Where a command prints, and how it ends."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from magistral_mlx.errors import EngineError, UserError

FAILED, REFUSED, INTERRUPTED = 1, 2, 130
"""Exit codes: the engine failed; the input was refused, as for an unknown option; Ctrl-C."""


def consoles() -> tuple[Console, Console]:
    """Standard output and standard error."""
    return Console(), Console(stderr=True, soft_wrap=True, highlight=False)


@contextmanager
def exit_codes(errors: Console) -> Iterator[None]:
    """Turn refusals and failures into one message and an exit code.

    Typer does the same for Ctrl-C and a closed pipe.
    """
    try:
        yield
    except UserError as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(REFUSED) from error
    except EngineError as error:
        errors.print(f"Generation failed: {error}", markup=False)
        raise typer.Exit(FAILED) from error


def print_json(value: object, console: Console) -> None:
    """Print indented JSON, with non-ASCII characters unescaped."""
    console.file.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
