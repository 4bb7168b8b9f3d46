"""The progress of a conversion, and its bar on the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as ProgressBar


@dataclass(frozen=True, slots=True)
class Progress:
    """Source bytes that are converted, of the total, and the current tensor."""

    done: int
    total: int
    tensor: str


ProgressCallback = Callable[[Progress], None]
NoteCallback = Callable[[str], None]
"""Receives sentences for the user."""


@contextmanager
def conversion_bar(console: Console) -> Iterator[ProgressCallback]:
    """Show bytes, rate and time left; yields `on_progress` for `convert`.

    Shows nothing if the console is not a terminal.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    disable = not console.is_terminal
    with ProgressBar(*columns, console=console, transient=True, disable=disable) as bar:
        task = bar.add_task("Checking", total=None)

        def show(progress: Progress) -> None:
            name = progress.tensor.removesuffix(".weight")
            bar.update(task, completed=progress.done, total=progress.total, description=name)

        yield show
