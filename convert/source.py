"""What is converted: tensors that can be read by rows, whatever they lie in."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import mlx.core as mx

from magistral_mlx.model_config import ModelConfig
from magistral_mlx.safetensors_header import ITEM_BYTES


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

    def read_rows(self, start: int, stop: int) -> mx.array:
        """Rows [start, stop) of the first axis, in the tensor's own type.

        Raises CheckpointError when they cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint that was checked and can be converted.

    hf_config is what config.json will hold but for the quantisation; companions are small files
    that are copied as they are. tensors come in the order of the forward pass.
    """

    name: str
    layout: str
    config: ModelConfig
    hf_config: Mapping[str, object]
    tensors: tuple[SourceTensor, ...]
    tokenizer_file: Path
    companions: tuple[Path, ...]


def row_bytes(tensor: SourceTensor) -> int:
    """Bytes of one row of the first axis, as the source stores it."""
    return prod(tensor.shape[1:]) * ITEM_BYTES[tensor.dtype]


def tensor_bytes(tensor: SourceTensor) -> int:
    """Bytes of the whole tensor, as the source stores it."""
    return tensor.shape[0] * row_bytes(tensor)
