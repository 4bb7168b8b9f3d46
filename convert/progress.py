"""A conversion's bar on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as ProgressBar

from magistral_mlx.convert.rounding.progress import Progress, ProgressCallback


@contextmanager
def conversion_bar(console: Console) -> Iterator[ProgressCallback]:
    """Show bytes of source weights, their rate and the time left; yields `convert`'s on_progress.

    A console that is no terminal shows nothing.
    """
    with _bar(console) as bar:
        task = bar.add_task("Checking", total=None)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.done,
                total=progress.total,
                description=progress.tensor.removesuffix(".weight"),
            )

        yield show


def _bar(console: Console) -> ProgressBar:
    return ProgressBar(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
