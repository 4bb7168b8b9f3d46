"""The KV files that one model can use, by their tokens."""

import logging
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from magistral_mlx.kv.cache import KVPrecision
from magistral_mlx.kv.disk.file import SUFFIX, KVFile, KVFileError, KVKind, name_start, read_kv_file
from magistral_mlx.kv.disk.folder import stored_files
from magistral_mlx.kv.token_trie import TokenTrie

logger = logging.getLogger(__name__)


class KVIndex:
    """The descriptions of a model's files, kept up to date with other processes' changes.

    Its methods may be called from any thread.
    """

    def __init__(self, folder: Path, *, fingerprint: str, dtype: str) -> None:
        """Read the headers. Files of other models, types and versions are ignored."""
        self._folder = folder
        self._fingerprint = fingerprint
        self._dtype = dtype
        self._lock = threading.RLock()
        self._tries: defaultdict[KVPrecision, TokenTrie[KVFile]] = defaultdict(TokenTrie)
        self._files: dict[str, KVFile] = {}
        self._useless: set[str] = set()  # names of files not to be read again
        self._scanned: int | None = None  # the folder's date at that time
        self._refresh()

    def kind(self, precision: KVPrecision) -> KVKind:
        """The kind of the files that can be used at a precision."""
        return KVKind(self._fingerprint, self._dtype, precision)

    def closest(self, tokens: Sequence[int], precision: KVPrecision) -> tuple[KVFile, int] | None:
        """A file that shares the longest prefix with these tokens, and the prefix's length."""
        with self._lock:
            self._refresh()
            return self._tries[precision].closest(tokens)

    def put(self, file: KVFile) -> None:
        """Add a written file; remove the files whose tokens are a prefix of its tokens."""
        with self._lock:
            self.forget(file)
            trie = self._tries[file.kind.precision]
            while (found := trie.closest(file.tokens)) and found[1] == len(found[0].tokens):
                self.forget(found[0])
                found[0].path.unlink(missing_ok=True)
            self._add(file)

    def forget(self, file: KVFile) -> None:
        """Remove a file from the index, if it is there."""
        with self._lock:
            if self._files.pop(file.path.name, None) is not None:
                self._tries[file.kind.precision].remove(file.tokens)

    def drop(self, path: Path, error: Exception) -> None:
        """Delete a file that must not be used, with a warning."""
        logger.warning("Removed %s: %s.", path, error)
        with self._lock:
            if path.name in self._files:
                self.forget(self._files[path.name])
            self._useless.add(path.name)
            try:
                path.unlink(missing_ok=True)
                self._useless.discard(path.name)
            except OSError as failure:
                logger.warning("It could not be removed: %s.", failure.strerror)

    def _refresh(self) -> None:
        """Scan the folder if it has changed."""
        date = _date(self._folder)
        if date is not None and date == self._scanned:
            return
        self._scanned = date
        paths = {file.path.name: file.path for file in stored_files(self._folder)}
        for name in self._files.keys() - paths.keys():
            self.forget(self._files[name])
        start = name_start(self._fingerprint)
        for name in sorted(paths.keys() - self._files.keys() - self._useless):
            if name.startswith(start) and name.endswith(SUFFIX):
                self._read_file(paths[name])

    def _read_file(self, path: Path) -> None:
        try:
            file = read_kv_file(path)
        except FileNotFoundError:
            return
        except KVFileError as error:
            self.drop(path, error)
            return
        except OSError as error:
            self._useless.add(path.name)
            logger.warning("Cannot read %s: %s.", path, error.strerror)
            return
        if file.kind == self.kind(file.kind.precision):
            self._add(file)
        else:
            self._useless.add(path.name)

    def _add(self, file: KVFile) -> None:
        self._files[file.path.name] = file
        self._tries[file.kind.precision].insert(file.tokens, file)


def _date(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None
