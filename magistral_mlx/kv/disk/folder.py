"""The folder of KV files, shared by all models and processes of one user; its budget in bytes.

Nothing is remembered between calls: another process may write or remove files at any moment, and
a file that is gone is no error anywhere.
"""

import fcntl
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.errors import RequestError
from magistral_mlx.folders import CACHE_VARIABLE, cache_folder
from magistral_mlx.kv.disk.file import UNFINISHED_SUFFIX, read_kv_file
from magistral_mlx.kv.disk.header import SUFFIX, KVFile, KVFileError

"""Environment variable that moves the folder: KV files go to "kv" in the folder that it names."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as the file system knows it. used: seconds since the epoch."""

    path: Path
    nbytes: int
    used: float


def kv_folder() -> Path:
    """Where KV files are kept; it may not exist yet."""
    cache = cache_folder()
    return cache / "kv"


def parse_disk_size(text: str) -> int:
    """Bytes of "20GB", "20" or "500 MB"; disks are sold in powers of ten. Raises RequestError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT]?)B?", text.strip(), re.IGNORECASE)
    size = float(match[1]) if match else 0.0
    if match is None or size <= 0:
        raise RequestError(f"Disk space {text!r} is not a size: write it as 20GB.")
    return int(size * {"M": 1e6, "": 1e9, "G": 1e9, "T": 1e12}[match[2].upper()])


def open_kv_folder(folder: Path, *, limit: int) -> None:
    """Make the folder, for this user alone; remove what was never finished or exceeds the limit.

    Raises RequestError when the folder cannot be used.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        _remove_unfinished(folder)
        make_room(folder, 0, limit=limit)
    except OSError as error:
        raise RequestError(
            f"KV cannot be kept in {folder} ({error.strerror}): make the folder writable, name "
            f"another with {CACHE_VARIABLE}, or leave --kv-disk out."
        ) from error


def make_room(folder: Path, needed: int, *, limit: int, older_than: float = float("inf")) -> bool:
    """Remove what was used longest ago until `needed` more bytes fit; never what is newer.

    Returns False, having removed nothing, when they cannot fit.
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
    """All KV files, unfinished ones too; none when there is no such folder."""
    found: list[StoredFile] = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((SUFFIX, UNFINISHED_SUFFIX)):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found.append(StoredFile(Path(entry.path), status.st_size, status.st_mtime))
    return found


def described_files(folder: Path) -> list[tuple[StoredFile, KVFile | None]]:
    """All complete files, the one used last first, with what they say; None: unreadable."""
    files = [file for file in stored_files(folder) if file.path.suffix == SUFFIX]
    files.sort(key=lambda file: file.used, reverse=True)
    return [(file, _described(file.path)) for file in files]


def remove_files(folder: Path, *, wanted: Callable[[KVFile | None], bool]) -> list[StoredFile]:
    """Remove the complete files that are wanted, and all that was never finished.

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
    """Remove what a process that is gone has begun; it was locked as long as that one lived."""
    removed = []
    for file in stored_files(folder):
        if file.path.suffix == UNFINISHED_SUFFIX and not _is_locked(file.path):
            logger.warning("Dropped %s: its writing was never finished.", file.path)
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
