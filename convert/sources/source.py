"""What is converted: tensors that can be read by rows, whatever they lie in."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.safetensors_header import TensorEntry
from magistral_mlx.device import SAFETENSORS_DTYPES

# NumPy has no bfloat16: two-byte floats are read as whole numbers and viewed as what they are.
READ_AS = {
    "BF16": np.uint16,
    "F16": np.uint16,
    "F32": np.uint32,
    "U32": np.uint32,
    "U8": np.uint8,
}

Rows = npt.NDArray[np.unsignedinteger]
"""Rows of a tensor as the source stores them, each element a whole number of its size."""


class SourceTensor(Protocol):
    """One tensor by its name and row order of the output; nothing is read before read_rows."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str:
        """The safetensors type name: BF16, F16 or F32."""
        ...

    def read_rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop) of the first axis, in the tensor's own type.

        Called from several threads, so it touches no MLX array. Raises CheckpointError when the
        rows cannot be read.
        """
        ...


class StoredTensor(SourceTensor, Protocol):
    """A tensor of a safetensors file, here or on a server."""

    @property
    def entry(self) -> TensorEntry: ...


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint that was checked and can be converted.

    hf_config is what config.json will hold but for the quantisation; companions are small files
    that are copied as they are. tensors come in the order of the forward pass. fingerprint
    changes with the weights, the tokenizer or the config; revision is the Hub's commit.
    readers: blocks that are read at once, ahead of the one being converted. notes: what the person
    should know about the source.
    """

    name: str
    layout: str
    config: ModelConfig
    hf_config: Mapping[str, object]
    tensors: tuple[SourceTensor, ...]
    tokenizer_file: Path
    companions: tuple[Path, ...]
    fingerprint: str
    revision: str | None = None
    licence: str | None = None
    readers: int = 2
    notes: tuple[str, ...] = ()


def as_array(rows: Rows, dtype: str) -> mx.array:
    """The rows as MLX's array of the safetensors type they were stored in."""
    return mx.array(rows).view(SAFETENSORS_DTYPES[dtype])


def row_bytes(tensor: SourceTensor) -> int:
    """Bytes of one row of the first axis, as the source stores it."""
    return prod(tensor.shape[1:]) * SAFETENSORS_DTYPES[tensor.dtype].size


def tensor_bytes(tensor: SourceTensor) -> int:
    """Bytes of the whole tensor, as the source stores it."""
    return tensor.shape[0] * row_bytes(tensor)
