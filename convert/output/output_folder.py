"""A folder that appears under its name only when it is complete.

Until then there is .NAME.partial beside it, with the journal, the lock, small files from the
network, and `model`, the folder that gets the name at the end.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.convert.output.journal import has_finished_tensors
from magistral_mlx.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where an output is made. It is kept after the run if the journal has finished tensors."""

    output: Path

    @property
    def folder(self) -> Path:
        return _beside(self.output, "partial")

    @property
    def replaced(self) -> Path:
        return _beside(self.output, "replaced")

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def fetched(self) -> Path:
        return self.folder / "fetched"

    @property
    def is_published(self) -> bool:
        """Whether a run was killed after the output got its name, but before the cleanup."""
        return self.journal.is_file() and not self.model.exists() and self.output.is_dir()


def check_output(output: Path, source: Path | None, *, force: bool) -> None:
    """Refuse an existing output, unless --force may delete it. Raises CheckpointError."""
    if source is not None and (output == source or output in source.parents):
        raise CheckpointError(
            f"{output} holds the source itself: choose another folder for the output."
        )
    if not os.path.lexists(output):
        return
    if not force:
        raise CheckpointError(
            f"{output} already exists: choose another folder, or replace it with --force."
        )
    if not output.is_dir() or (any(output.iterdir()) and not (output / "config.json").is_file()):
        raise CheckpointError(
            f"{output} is not a converted model, and --force would delete it: choose another "
            "folder."
        )


def check_space(output: Path, needed: int) -> None:
    """Refuse when the output's disk has fewer than `needed` bytes free. Raises CheckpointError.

    The files of an interrupted run count as free: they are reused or deleted.
    """
    parent = next(folder for folder in output.parents if folder.exists())
    leftovers = _beside(output, "partial").rglob("*")
    # Blocks, not lengths: weight files have their final length from the start.
    held = sum(512 * path.stat().st_blocks for path in leftovers if path.is_file())
    free = shutil.disk_usage(parent).free + held
    if free < needed:
        raise CheckpointError(
            f"{output} needs {needed / 1e9:.2f} GB and its disk has {free / 1e9:.2f} GB free: free "
            "some space or choose a folder on another disk."
        )


@contextmanager
def locked(place: Workplace) -> Iterator[None]:
    """Hold the workplace while the block runs.

    Afterwards it is deleted, except when the block raised and the journal has finished tensors.
    Raises CheckpointError while another process writes the same output.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    with (place.folder / "lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                f"{place.output} is being written by another process: wait until it ends."
            ) from error
        _recover(place)
        try:
            yield
        except BaseException:
            if not has_finished_tensors(place.journal):
                _clean_up(place)
            raise
        _clean_up(place)


def start_over(place: Workplace) -> None:
    """Delete the work of an earlier run."""
    place.journal.unlink(missing_ok=True)
    shutil.rmtree(place.model, ignore_errors=True)
    place.model.mkdir()


def publish(place: Workplace) -> None:
    """Give the finished folder its name, and delete an older output."""
    _sync(place.model, *place.model.iterdir())
    try:
        if place.output.exists():
            place.output.rename(place.replaced)
        place.model.rename(place.output)
    except BaseException:
        _recover(place)
        raise
    _sync(place.output.parent)
    shutil.rmtree(place.replaced, ignore_errors=True)


def _beside(output: Path, purpose: str) -> Path:
    return output.with_name(f".{output.name}.{purpose}")


def _recover(place: Workplace) -> None:
    """Undo a `publish` that was killed between its two renames: put the old folder back."""
    if place.replaced.exists() and not place.output.exists():
        place.replaced.rename(place.output)
    shutil.rmtree(place.replaced, ignore_errors=True)


def _clean_up(place: Workplace) -> None:
    # The journal last, before the lock: without a journal, the model folder is worthless.
    shutil.rmtree(place.model, ignore_errors=True)
    shutil.rmtree(place.fetched, ignore_errors=True)
    place.journal.unlink(missing_ok=True)
    shutil.rmtree(place.folder, ignore_errors=True)


def _sync(*paths: Path) -> None:
    """Flush files, and folders, which hold the names, to the disk."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
