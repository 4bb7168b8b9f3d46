"""The output's safetensors files: planned whole, then filled block by block."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import mlx.core as mx
import numpy as np

from magistral_mlx.checkpoint.safetensors_header import LENGTH_BYTES, TensorEntry, TensorSpec

SHARD_BYTES = 5 << 30
"""mlx-lm's MAX_FILE_SIZE_GB."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file: its header, and the byte range of every tensor in the file."""

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

    A tensor that is larger gets a file of its own.
    """
    groups: list[list[TensorSpec]] = [[]]
    size = 0
    for tensor in tensors:
        if groups[-1] and size + tensor.nbytes > shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.nbytes
    return tuple(
        _shard(_file_name(number, len(groups)), group) for number, group in enumerate(groups, 1)
    )


class ShardWriter:
    """Writes planned files by appending rows to each tensor in it, in any order of tensors.

    Files that an earlier run began are gone on with. A context manager: leaving it closes the
    files.
    """

    def __init__(self, folder: Path, shards: tuple[Shard, ...]) -> None:
        self._files = {shard.file_name: _open(folder / shard.file_name) for shard in shards}
        self._places = {
            name: (shard.file_name, entry)
            for shard in shards
            for name, entry in shard.entries.items()
        }
        self._written = dict.fromkeys(self._places, 0)
        self._digests = {name: sha256() for name in self._places}
        for shard in shards:
            self._files[shard.file_name].write(shard.header)

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
        """Hand whole tensors to the operating system; the SHA-256 (hex) of their bytes."""
        digests = {}
        for name in names:
            file_name, entry = self._places[name]
            assert self._written[name] == entry.stop - entry.start, f"{name}: rows are missing"
            self._files[file_name].flush()
            digests[name] = self._digests[name].hexdigest()
        return digests

    def sync(self) -> None:
        """Put everything on the disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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


def _open(path: Path) -> BinaryIO:
    return path.open("r+b" if path.exists() else "xb")


def _file_name(number: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def _shard(file_name: str, tensors: list[TensorSpec]) -> Shard:
    header: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    offsets: dict[str, tuple[int, int]] = {}
    position = 0
    for tensor in tensors:
        offsets[tensor.name] = (position, position + tensor.nbytes)
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": list(offsets[tensor.name]),
        }
        position += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = LENGTH_BYTES + len(text)
    entries = {
        tensor.name: TensorEntry(
            tensor.dtype,
            tensor.shape,
            data + offsets[tensor.name][0],
            data + offsets[tensor.name][1],
        )
        for tensor in tensors
    }
    return Shard(file_name, len(text).to_bytes(LENGTH_BYTES, "little") + text, entries)


def _plain_bytes(rows: mx.array) -> memoryview:
    """The array's own bytes; two-byte floats as whole numbers, for NumPy has no bfloat16."""
    numbers = np.asarray(rows.view(mx.uint16) if rows.dtype.size == 2 else rows)
    return np.ascontiguousarray(numbers).reshape(-1).view(np.uint8).data
