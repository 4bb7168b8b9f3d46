"""The header of a safetensors file: names, types, shapes and byte ranges, without the data."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeGuard

from magistral_mlx.device import SAFETENSORS_DTYPES
from magistral_mlx.errors import CheckpointError

LENGTH_BYTES = 8
"""The file starts with the header's length, little-endian."""

HEADER_LIMIT = 100_000_000
"""The format's own limit: a file with a longer header is no safetensors file."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor to write: name, safetensors type name and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return prod(self.shape) * SAFETENSORS_DTYPES[self.dtype].size


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file: safetensors type name, shape, and the file's byte range of its data."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Read and check the header of a safetensors file (https://github.com/huggingface/safetensors).

    Raises CheckpointError when the file is missing, truncated or not a safetensors file, or when
    a tensor has an unsupported type.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if size < LENGTH_BYTES or length > HEADER_LIMIT:
                raise _damaged(path, "it has no safetensors header")
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): restore the file and run this again."
        ) from error
    return parse_header(text, size, path)


def header_bytes(tensors: Iterable[TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """The header of a file with these tensors in order, with its length before it."""
    header: dict[str, object] = {"__metadata__": metadata}
    start = 0
    for tensor in tensors:
        stop = start + tensor.nbytes
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def parse_header(text: bytes, file_size: int, path: Path) -> dict[str, TensorEntry]:
    """Parse a header and check it against the size of its file; byte ranges are of the file."""
    data_start = LENGTH_BYTES + len(text)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise _damaged(path, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    entries = {name: _entry(name, value, data_start, path) for name, value in header.items()}
    needed = max((entry.stop for entry in entries.values()), default=data_start)
    if file_size != needed:
        raise _damaged(path, f"it has {file_size:,} bytes, and its header needs {needed:,}")
    return entries


def _entry(name: str, value: object, data_start: int, path: Path) -> TensorEntry:
    if not isinstance(value, Mapping):
        raise _damaged(path, f"tensor {name} has no description")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in SAFETENSORS_DTYPES:
        raise CheckpointError(
            f"{path}: tensor {name} has type {dtype}, but only {', '.join(SAFETENSORS_DTYPES)} "
            "are supported: use the bfloat16, float16 or float32 release of the weights."
        )
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        raise _damaged(path, f"tensor {name} has no shape or no byte range")
    entry = TensorEntry(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])
    if entry.stop - entry.start != prod(entry.shape) * SAFETENSORS_DTYPES[dtype].size:
        raise _damaged(path, f"the byte range of tensor {name} does not fit its shape")
    return entry


def _whole_numbers(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged or incomplete: {what}; download it again.")
