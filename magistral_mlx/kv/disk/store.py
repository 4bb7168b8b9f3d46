"""The KV store: finished KV on disk, found by its tokens and written in the background."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.checkpoint.safetensors_header import TensorSpec
from magistral_mlx.device import dtype_name, safetensors_name
from magistral_mlx.kv.cache import KVCache, KVPrecision
from magistral_mlx.kv.disk.file import KVFile, KVFileError, KVReader, Rows, file_name, write_kv_file
from magistral_mlx.kv.disk.folder import make_room, open_kv_folder
from magistral_mlx.kv.disk.index import KVIndex
from magistral_mlx.kv.prefix_cache import LEAST_TOKENS_ON_DISK
from magistral_mlx.kv.quantised import empty_cache

LEAST_SHARE = 8
"""A file is read whole for its checksum, so at least an eighth of its tokens must be useful.

Reading is about thirty times as fast as prefilling: 1 GB a second against 200 tokens of 164 kB.
"""

COPIED_BYTES = 256_000_000
"""Most evicted KV that waits in memory to be written; more than this is lost."""

RETRY_SECONDS = 60.0
"""Pause of writing after an error, for example a full disk."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """KV for the writer thread, which must not use MLX arrays."""

    file: KVFile
    rows: list[Rows]
    nbytes: int
    used: float


class KVStore:
    """One model's KV on disk. Only the engine's thread calls it; a writer thread helps."""

    def __init__(
        self, folder: Path, *, limit: int, checkpoint: Checkpoint, dtype: mx.Dtype
    ) -> None:
        """Read the headers of this model's files.

        Args:
            folder: shared with other models and processes; made if it is missing.
            limit: bytes of all files in it.
            dtype: the compute type; KV of another type is not used.

        Raises RequestError when the folder cannot be used.
        """
        open_kv_folder(folder, limit=limit)
        self._folder = folder
        self._limit = limit
        self._checkpoint = checkpoint
        self._dtype = dtype
        self._index = KVIndex(folder, fingerprint=checkpoint.fingerprint, dtype=dtype_name(dtype))
        self._layouts: dict[KVPrecision, KVLayout] = {}
        self._no_writes_before = 0.0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards _copied
        self._copied = 0
        self._writer: threading.Thread | None = None
        self._closing = threading.Event()

    def longest_prefix(self, tokens: Sequence[int], precision: KVPrecision) -> int:
        """How many of these tokens `load` finds KV for; 0 if a file is not worth reading."""
        found = self._find(tokens, precision)
        return found[1] if found is not None else 0

    def load(
        self, tokens: Sequence[int], precision: KVPrecision, *, most_bytes: int | None = None
    ) -> KVCache | None:
        """KV of the longest stored prefix of these tokens; its file stays.

        Files above `most_bytes` are not read. Damaged files are removed.
        """
        found = self._find(tokens, precision)
        if found is None or (most_bytes is not None and found[0].nbytes > most_bytes):
            return None
        file, length = found
        try:
            cache = self._read(file, length)
        except FileNotFoundError:  # another process removed it
            self._index.forget(file)
            return None
        except (KVFileError, OSError) as error:
            self._index.drop(file.path, error)
            return None
        with suppress(OSError):  # another process may have removed it
            os.utime(file.path)
        return cache

    def wants(self, tokens: Sequence[int], cache: KVCache) -> bool:
        """Whether this KV should be written: it is long enough, fits, and is not stored yet."""
        if len(tokens) < LEAST_TOKENS_ON_DISK or time.monotonic() < self._no_writes_before:
            return False
        found = self._index.closest(tokens, cache.precision)
        return cache.nbytes <= self._limit and (found is None or found[1] < len(tokens))

    def write(
        self, tokens: Sequence[int], cache: KVCache, *, used: float, stop: Callable[[], bool]
    ) -> None:
        """Write KV now; `stop` is called before each array and ends it by returning True.

        used: the time of last use, in seconds since the epoch. No file that was used later is
            removed to make room.
        """
        rows = self._layout(cache.precision).rows(cache)
        self._write(self._file(tokens, cache), rows, used=used, stop=stop)

    def write_later(self, tokens: Sequence[int], cache: KVCache, *, used: float) -> None:
        """Copy KV, if memory allows, for the writer thread; return at once."""
        with self._lock:
            if self._copied + cache.nbytes > COPIED_BYTES:
                logger.info("KV of %d tokens was evicted without being written.", len(tokens))
                return
            self._copied += cache.nbytes
        rows = list(self._layout(cache.precision).rows(cache))
        self._jobs.put(_Job(self._file(tokens, cache), rows, cache.nbytes, used))
        if self._writer is None:
            self._writer = threading.Thread(
                target=self._write_jobs, name="magistral-kv-writer", daemon=True
            )
            self._writer.start()

    def close(self, *, seconds: float = 0.0) -> None:
        """End the writer thread; KV that it has not written after `seconds` is lost."""
        if self._writer is not None:
            self._jobs.put(None)
            self._writer.join(timeout=max(0.0, seconds))
            self._closing.set()
            self._writer.join()
            self._writer = None

    def _find(self, tokens: Sequence[int], precision: KVPrecision) -> tuple[KVFile, int] | None:
        """A file worth reading, and the length of the shared prefix."""
        found = self._index.closest(tokens, precision)
        if found is None:
            return None
        file, length = found
        worth = length >= LEAST_TOKENS_ON_DISK and length * LEAST_SHARE >= len(file.tokens)
        return found if worth else None

    def _read(self, file: KVFile, length: int) -> KVCache:
        layout = self._layout(file.kind.precision)
        with KVReader(file.path) as reader:
            if reader.file.tensors != layout.tensors(len(file.tokens)):
                raise KVFileError("its arrays do not fit this model")
            cache = layout.cache(reader.rows(), stored=len(file.tokens), length=length)
            reader.verify()
        return cache

    def _write(
        self, file: KVFile, rows: Iterable[Rows], *, used: float, stop: Callable[[], bool]
    ) -> None:
        """On the engine's thread or the writer's."""
        try:
            if make_room(
                self._folder, file.nbytes, limit=self._limit, older_than=used
            ) and write_kv_file(file, rows, used=used, stop=stop):
                self._index.put(file)
        except OSError as error:
            self._no_writes_before = time.monotonic() + RETRY_SECONDS
            logger.warning("KV could not be stored in %s: %s.", self._folder, error.strerror)

    def _write_jobs(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._closing.is_set():
                self._write(job.file, job.rows, used=job.used, stop=self._closing.is_set)
            with self._lock:
                self._copied -= job.nbytes

    def _file(self, tokens: Sequence[int], cache: KVCache) -> KVFile:
        kind = self._index.kind(cache.precision)
        return KVFile(
            path=self._folder / file_name(kind, tokens),
            kind=kind,
            model=self._checkpoint.folder.name,
            tokens=tuple(tokens),
            tensors=self._layout(cache.precision).tensors(len(tokens)),
        )

    def _layout(self, precision: KVPrecision) -> "KVLayout":
        if precision not in self._layouts:
            self._layouts[precision] = KVLayout(self._checkpoint.config, self._dtype, precision)
        return self._layouts[precision]


class KVLayout:
    """The arrays of one model's caches at one precision, named "part.layer.array"."""

    def __init__(self, config: ModelConfig, dtype: mx.Dtype, precision: KVPrecision) -> None:
        """dtype: the compute type."""
        self._config = config
        self._precision = precision
        # With one token more than stay as computed, no part is empty. Nothing is evaluated.
        example = empty_cache(config, precision)
        shape = (1, config.num_key_value_heads, precision.start + 1, config.head_dim)
        rows = mx.zeros(shape, dtype)
        queries = mx.zeros((1, config.num_attention_heads, 0, config.head_dim), dtype)
        example.attend(0, queries, rows, rows, scale=1.0)
        self._parts = [part.arrays for part in example._parts]

    def tensors(self, length: int) -> tuple[TensorSpec, ...]:
        """Name, type and shape of all arrays of a cache with `length` tokens, in order."""
        lengths = empty_cache(self._config, self._precision)._split(length)
        return tuple(
            TensorSpec(
                f"{part}.{layer}.{index}",
                safetensors_name(array.dtype),
                (1, array.shape[1], tokens, array.shape[3]),
            )
            for part, (arrays, tokens) in enumerate(zip(self._parts, lengths, strict=True))
            for layer in range(self._config.num_hidden_layers)
            for index, array in enumerate(arrays)
            if tokens
        )

    def rows(self, cache: KVCache) -> Iterator[Rows]:
        """Copies of the cache's arrays in that order, made one by one."""
        for part in cache._parts:
            for layer in range(part.layers if part.length else 0):
                for array in part.read(layer):
                    yield _to_numpy(array)

    def cache(self, rows: Iterator[Rows], *, stored: int, length: int) -> KVCache:
        """A cache of the first `length` tokens, from the arrays of `stored` tokens."""
        cache = empty_cache(self._config, self._precision)
        lengths, all_tokens = cache._split(length), cache._split(stored)
        for number, part in enumerate(cache._parts):
            arrays, keep = self._parts[number], lengths[number]
            for layer in range(part.layers if all_tokens[number] else 0):
                values = [_to_mlx(next(rows)[..., :keep, :], like.dtype) for like in arrays]
                if keep:
                    mx.eval(part.write(layer, values))
            part.advance(keep)
        return cache


def _to_numpy(array: mx.array) -> Rows:
    # NumPy has no bfloat16.
    return np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)


def _to_mlx(rows: Rows, dtype: mx.Dtype) -> mx.array:
    array = mx.array(rows)
    return array.view(dtype) if dtype == mx.bfloat16 else array
