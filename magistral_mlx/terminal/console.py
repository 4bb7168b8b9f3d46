"""Where a command writes, and how it ends."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from magistral_mlx.errors import EngineError, UserError

FAILED, REFUSED, INTERRUPTED = 1, 2, 130
"""Exit codes: the engine failed, the input was refused (as for a wrong option), Ctrl-C."""


def consoles() -> tuple[Console, Console]:
    """Standard output and standard error."""
    return Console(), Console(stderr=True, soft_wrap=True, highlight=False)


@contextmanager
def exit_codes(errors: Console) -> Iterator[None]:
    """Refusals and failures become one message and an exit code; typer maps Ctrl-C and EPIPE."""
    try:
        yield
    except UserError as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(REFUSED) from error
    except EngineError as error:
        errors.print(f"The generation failed: {error}", markup=False)
        raise typer.Exit(FAILED) from error
