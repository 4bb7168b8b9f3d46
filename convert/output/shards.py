"""The output's safetensors files: planned, written block by block, and checked."""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Self

import mlx.core as mx
import numpy as np

from magistral_mlx.checkpoint.safetensors_header import (
    LENGTH_BYTES,
    TensorEntry,
    TensorSpec,
    header_bytes,
    parse_header,
)
from magistral_mlx.errors import CheckpointError

SHARD_BYTES = 5 << 30
"""mlx-lm's MAX_FILE_SIZE_GB."""

READ_BYTES = 4 << 20
READ_THREADS = 4
"""hashlib releases the interpreter lock, so checksums are computed in parallel."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file: its header, and the byte range of every tensor."""

    file_name: str
    header: bytes
    entries: dict[str, TensorEntry]

    @property
    def nbytes(self) -> int:
        return max(entry.stop for entry in self.entries.values())


def plan_shards(
    tensors: Iterable[TensorSpec], *, shard_bytes: int = SHARD_BYTES
) -> tuple[Shard, ...]:
    """Distribute tensors over files of at most `shard_bytes`, in order, as mlx-lm does.

    A larger tensor gets a separate file.
    """
    groups: list[list[TensorSpec]] = [[]]
    size = 0
    for tensor in tensors:
        if groups[-1] and size + tensor.nbytes > shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.nbytes
    count = len(groups)
    names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    return tuple(map(_shard, names if count > 1 else ["model.safetensors"], groups))


class ShardWriter:
    """Writes the planned files by appending rows to their tensors, in any order of tensors.

    Keeps what an earlier run wrote. A context manager, which closes the files.
    """

    def __init__(self, folder: Path, shards: tuple[Shard, ...]) -> None:
        self._files: dict[str, BinaryIO] = {}
        for shard in shards:
            path = folder / shard.file_name
            self._files[shard.file_name] = path.open("r+b" if path.exists() else "xb")
            self._files[shard.file_name].write(shard.header)
        self._places = {
            name: (shard.file_name, entry)
            for shard in shards
            for name, entry in shard.entries.items()
        }
        self._written = dict.fromkeys(self._places, 0)
        self._digests = {name: sha256() for name in self._places}

    def append(self, name: str, rows: mx.array) -> None:
        """Write the next rows of a tensor. Raises OSError when the disk is full or fails."""
        file_name, entry = self._places[name]
        data = _plain_bytes(rows)
        position = entry.start + self._written[name]
        assert position + len(data) <= entry.stop, f"{name}: more rows than planned"
        file = self._files[file_name]
        file.seek(position)
        file.write(data)
        self._digests[name].update(data)
        self._written[name] += len(data)

    def close_tensors(self, names: Iterable[str]) -> dict[str, str]:
        """Flush complete tensors to the operating system; returns their SHA-256 (hex)."""
        digests = {}
        for name in names:
            file_name, entry = self._places[name]
            assert self._written[name] == entry.stop - entry.start, f"{name}: rows are missing"
            self._files[file_name].flush()
            digests[name] = self._digests[name].hexdigest()
        return digests

    def sync(self) -> None:
        """Flush everything to the disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()


def index_json(shards: tuple[Shard, ...], *, parameters: int) -> dict[str, object]:
    """model.safetensors.index.json as mlx-lm writes it; `parameters` counts unpacked weights."""
    places = {name: shard.file_name for shard in shards for name in shard.entries}
    sizes = [entry.stop - entry.start for shard in shards for entry in shard.entries.values()]
    return {
        "metadata": {"total_size": sum(sizes), "total_parameters": parameters},
        "weight_map": dict(sorted(places.items())),
    }


def wrong_tensors(
    places: Mapping[str, tuple[Path, TensorEntry]], digests: Mapping[str, str]
) -> list[str]:
    """The tensors of `digests` whose bytes on disk have another SHA-256.

    Raises CheckpointError when a file cannot be read.
    """

    def is_right(name: str) -> bool:
        path, entry = places[name]
        return path.is_file() and _digest(path, entry) == digests[name]

    with ThreadPoolExecutor(READ_THREADS) as threads:
        results = threads.map(is_right, digests)
        return [name for name, right in zip(digests, results, strict=True) if not right]


def _digest(path: Path, entry: TensorEntry) -> str:
    digest = sha256()
    try:
        with path.open("rb") as file:
            file.seek(entry.start)
            left = entry.stop - entry.start
            while left and (data := file.read(min(READ_BYTES, left))):
                digest.update(data)
                left -= len(data)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): check the disk and run this again."
        ) from error
    return digest.hexdigest()


def _shard(file_name: str, tensors: list[TensorSpec]) -> Shard:
    header = header_bytes(tensors, {"format": "mlx"})
    size = len(header) + sum(tensor.nbytes for tensor in tensors)
    return Shard(file_name, header, parse_header(header[LENGTH_BYTES:], size, Path(file_name)))


def _plain_bytes(rows: mx.array) -> memoryview:
    """The array's bytes; two-byte floats as integers, because NumPy has no bfloat16."""
    numbers = np.asarray(rows.view(mx.uint16) if rows.dtype.size == 2 else rows)
    return np.ascontiguousarray(numbers).reshape(-1).view(np.uint8).data
