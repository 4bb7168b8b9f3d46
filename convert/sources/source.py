"""A checkpoint to convert: its config, and tensors that are read by rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.device import SAFETENSORS_DTYPES

# NumPy has no bfloat16: two-byte floats are read as integers, and MLX views them as floats.
READ_AS = {
    "BF16": np.uint16,
    "F16": np.uint16,
    "F32": np.uint32,
    "U32": np.uint32,
    "U8": np.uint8,
}

Rows = npt.NDArray[np.unsignedinteger]
"""Rows of a tensor as the source stores them, each element an unsigned integer of its size."""


class SourceTensor(Protocol):
    """A tensor with the name and row order of the output. Only `read_rows` reads data."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str:
        """The safetensors type name: BF16, F16 or F32."""
        ...

    def read_rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop) of the first axis, in the tensor's type.

        Several threads call it, so it must not touch MLX arrays. Raises CheckpointError when the
        rows cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A checked checkpoint.

    hf_config: the content of config.json, without quantisation. tensors: in the order of the
    forward pass. companions: small files to copy unchanged. fingerprint: changes with the weights,
    the tokenizer or the config. revision: the commit on the Hub. readers: how many blocks to read
    at once, ahead of the conversion. notes: sentences for the user.
    """

    name: str
    layout: str
    config: ModelConfig
    hf_config: Mapping[str, object]
    tensors: tuple[SourceTensor, ...]
    tokenizer_file: Path
    fingerprint: str
    companions: tuple[Path, ...] = ()
    revision: str | None = None
    licence: str | None = None
    readers: int = 2
    notes: tuple[str, ...] = ()


def as_array(rows: Rows, dtype: str) -> mx.array:
    """The rows as an MLX array of the given safetensors type."""
    return mx.array(rows).view(SAFETENSORS_DTYPES[dtype])


def row_bytes(tensor: SourceTensor) -> int:
    """Bytes of one row of the first axis, as the source stores it."""
    return prod(tensor.shape[1:]) * SAFETENSORS_DTYPES[tensor.dtype].size


def tensor_bytes(tensor: SourceTensor) -> int:
    """Bytes of the whole tensor, as the source stores it."""
    return tensor.shape[0] * row_bytes(tensor)
