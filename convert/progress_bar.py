"""A conversion with a bar on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as ProgressBar

from magistral_mlx.convert.conversion import convert
from magistral_mlx.convert.progress import Progress


def convert_with_bar(
    source: str | Path,
    output: str | Path | None,
    *,
    bits: int = 4,
    group_size: int = 64,
    recipe: str | None = None,
    target_bits: float | None = None,
    modules: Sequence[str] = (),
    rtn: bool = False,
    importance: Path | None = None,
    calibrate: Path | None = None,
    dtype: str = "bfloat16",
    force: bool = False,
    restart: bool = False,
    revision: str | None = None,
    keep_source: bool = False,
    tokenizer: Path | None = None,
    console: Console,
) -> Path:
    """Run `convert` and show bytes of source weights, their rate and the time left.

    A console that is no terminal shows notes only. Raises what `convert` raises.
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

        return convert(
            source,
            output,
            bits=bits,
            group_size=group_size,
            recipe=recipe,
            target_bits=target_bits,
            modules=modules,
            rtn=rtn,
            importance=importance,
            calibrate=calibrate,
            dtype=dtype,
            force=force,
            restart=restart,
            revision=revision,
            keep_source=keep_source,
            tokenizer=tokenizer,
            on_progress=show,
            on_note=lambda note: console.print(note, markup=False),
        )


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
