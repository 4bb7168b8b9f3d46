"""A folder that appears under its name only when it is complete."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from magistral_mlx.errors import CheckpointError

LOCK = ".lock"


def check_output(output: Path, source: Path, *, force: bool) -> None:
    """Refuse an output that exists, or that --force must not delete. Raises CheckpointError."""
    if output == source or output in source.parents:
        raise CheckpointError(
            f"{output} holds the source itself: choose another folder for the output."
        )
    if not os.path.lexists(output):
        return
    if not force:
        raise CheckpointError(
            f"{output} exists already: choose another folder, or replace it with --force."
        )
    if not output.is_dir() or (any(output.iterdir()) and not (output / "config.json").is_file()):
        raise CheckpointError(
            f"{output} is not a converted model, and --force would delete it: choose another "
            "folder."
        )


def check_space(output: Path, needed: int) -> None:
    """Refuse when the output's disk has fewer than `needed` bytes free. Raises CheckpointError.

    What a killed run left counts as free: it is deleted before anything is written.
    """
    parent = next(folder for folder in output.parents if folder.exists())
    leftovers = _beside(output, "partial").glob("*")
    free = shutil.disk_usage(parent).free + sum(path.stat().st_size for path in leftovers)
    if free < needed:
        raise CheckpointError(
            f"{output} needs {needed / 1e9:.2f} GB and its disk has {free / 1e9:.2f} GB free: free "
            "some space or choose a folder on another disk."
        )


@contextmanager
def atomic_folder(output: Path) -> Iterator[Path]:
    """Yield an empty folder beside `output` that takes its name when the block ends well.

    On an error or Ctrl-C it is deleted and `output` stays as it was; what a killed run left is
    deleted by the next. An older `output` is replaced. Raises CheckpointError while another
    process writes the same output.
    """
    partial, replaced = _beside(output, "partial"), _beside(output, "replaced")
    partial.mkdir(parents=True, exist_ok=True)
    with (partial / LOCK).open("wb") as lock:
        _take(lock, output)
        _recover(output, replaced)
        _empty(partial)
        try:
            yield partial
            (partial / LOCK).unlink()
            _sync_folder(partial)
            _publish(partial, output, replaced)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _beside(output: Path, purpose: str) -> Path:
    return output.with_name(f".{output.name}.{purpose}")


def _take(lock: BinaryIO, output: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CheckpointError(
            f"{output} is being written by another process: wait until it ends."
        ) from error


def _recover(output: Path, replaced: Path) -> None:
    """A run that was killed between the two renames of _publish left the old folder aside."""
    if replaced.exists() and not output.exists():
        replaced.rename(output)
    shutil.rmtree(replaced, ignore_errors=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _publish(partial: Path, output: Path, replaced: Path) -> None:
    try:
        if output.exists():
            output.rename(replaced)
        partial.rename(output)
    except BaseException:
        _recover(output, replaced)
        raise
    _sync_folder(output.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Names survive a power cut only when their folder is on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
