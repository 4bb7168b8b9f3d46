"""The folder of KV files, shared by all models and processes of one user, within a byte limit.

Nothing is cached between calls: other processes may write and remove files at any time, and a
missing file is never an error.
"""

import fcntl
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.errors import RequestError
from magistral_mlx.folders import CACHE_VARIABLE, cache_folder
from magistral_mlx.kv.disk.file import SUFFIX, UNFINISHED_SUFFIX, KVFile, KVFileError, read_kv_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file's path, size and time of last use in seconds since the epoch."""

    path: Path
    nbytes: int
    used: float


def kv_folder() -> Path:
    """The folder of KV files; it may not exist yet."""
    return cache_folder() / "kv"


def open_kv_folder(folder: Path, *, limit: int) -> None:
    """Make the folder, for this user alone; remove unfinished files and those above the limit.

    Raises RequestError when the folder cannot be used.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        _remove_unfinished(folder)
        make_room(folder, 0, limit=limit)
    except OSError as error:
        raise RequestError(
            f"KV cannot be stored in {folder} ({error.strerror}): make the folder writable, set "
            f"{CACHE_VARIABLE} to another, or leave out --kv-disk."
        ) from error


def make_room(folder: Path, needed: int, *, limit: int, older_than: float = float("inf")) -> bool:
    """Remove the least recently used files until `needed` more bytes fit.

    Files used after `older_than` stay. Returns False, and removes nothing, if they cannot fit.
    """
    files = stored_files(folder)
    excess = sum(file.nbytes for file in files) + needed - limit
    old = [file for file in files if file.used < older_than and file.path.suffix == SUFFIX]
    if excess > sum(file.nbytes for file in old):
        return False
    for file in sorted(old, key=lambda file: file.used):
        if excess <= 0:
            break
        file.path.unlink(missing_ok=True)
        excess -= file.nbytes
    return True


def stored_files(folder: Path) -> list[StoredFile]:
    """All KV files, unfinished ones too; none if the folder does not exist."""
    found: list[StoredFile] = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((SUFFIX, UNFINISHED_SUFFIX)):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found.append(StoredFile(Path(entry.path), status.st_size, status.st_mtime))
    return found


def described_files(folder: Path) -> list[tuple[StoredFile, KVFile | None]]:
    """All complete files, the last used first, with their description; None: unreadable."""
    files = [file for file in stored_files(folder) if file.path.suffix == SUFFIX]
    files.sort(key=lambda file: file.used, reverse=True)
    return [(file, _described(file.path)) for file in files]


def remove_files(folder: Path, *, wanted: Callable[[KVFile | None], bool]) -> list[StoredFile]:
    """Remove the complete files for which `wanted` is true, and all unfinished ones.

    Raises OSError when a file cannot be removed.
    """
    removed = _remove_unfinished(folder)
    for file, described in described_files(folder):
        if wanted(described):
            file.path.unlink(missing_ok=True)
            removed.append(file)
    return removed


def _described(path: Path) -> KVFile | None:
    try:
        return read_kv_file(path)
    except (KVFileError, OSError):
        return None


def _remove_unfinished(folder: Path) -> list[StoredFile]:
    """Remove files that a dead process left: a living one holds a lock on its file."""
    removed = []
    for file in stored_files(folder):
        if file.path.suffix == UNFINISHED_SUFFIX and not _is_locked(file.path):
            logger.warning("Removed %s: it was never finished.", file.path)
            file.path.unlink(missing_ok=True)
            removed.append(file)
    return removed


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, gone, or not ours
        return True
    return False
