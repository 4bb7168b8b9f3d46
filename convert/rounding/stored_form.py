"""The stored form of a tensor: format, names, packing, back to float32, and its error."""

from dataclasses import dataclass
from typing import cast

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.sources.source import SourceTensor

SAMPLED_ROWS = 16
"""A conversion measures every 16th row of a block: measuring all takes as long as rounding."""


def stored_as(tensor: SourceTensor, config: ModelConfig) -> Quantization | None:
    """How the output with this config stores a tensor; None: as plain numbers."""
    if len(tensor.shape) == 1:
        return None
    return config.quantization_of(tensor.name.removesuffix(".weight"))


def stored_names(name: str, quantization: Quantization | None) -> tuple[str, ...]:
    """The output's tensors for a tensor of the source: weight, scales, biases."""
    if quantization is None:
        return (name,)
    module = name.removesuffix(".weight")
    names = (name, f"{module}.scales", f"{module}.biases")
    return names if quantization.has_biases else names[:2]


def pack(steps: mx.array, *, bits: int) -> mx.array:
    """Pack (rows, columns) integers below 2**bits into uint32 (rows, columns * bits / 32).

    MLX's format: a stream of bits, each number's lowest bit first; columns are a multiple of 32.
    """
    rows, columns = steps.shape
    count = 32 // bits if 32 % bits == 0 else 8
    # Eight numbers of an odd width fill whole bytes, in up to 48 bits.
    wide = mx.uint32 if count * bits <= 32 else mx.uint64
    numbers = steps.astype(wide).reshape(rows, columns // count, count)
    shifts = mx.arange(0, count * bits, bits).astype(wide)
    words = mx.left_shift(numbers, shifts).sum(-1, keepdims=True).astype(wide)
    used = words.view(mx.uint8)[..., : count * bits // 8]
    return mx.contiguous(used.reshape(rows, -1)).view(mx.uint32)


def dequantise(stored: tuple[mx.array, ...], quantization: Quantization | None) -> mx.array:
    """Stored rows as float32 weights."""
    weight, *rest = stored
    if quantization is None:
        return weight.astype(mx.float32)
    scales, *biases = rest
    wide = scales if scales.dtype == mx.uint8 else scales.astype(mx.float32)
    return mx.dequantize(
        weight,
        wide,
        biases[0].astype(mx.float32) if biases else None,
        group_size=quantization.group_size,
        bits=quantization.bits,
        mode=quantization.mode,
    ).astype(mx.float32)


@dataclass(frozen=True, slots=True)
class WeightError:
    """The error of one tensor.

    mean: norm of the difference over the norm of the source's weights.
    largest: largest difference of one weight over the root mean square of the source's weights.
    """

    mean: float
    largest: float


class ErrorMeter:
    """Adds up the error of one tensor, block by block."""

    def __init__(self, quantization: Quantization | None, *, every: int = SAMPLED_ROWS) -> None:
        """every: the distance of the measured rows in a block."""
        self._quantization = quantization
        self._every = every
        self._squares = self._source_squares = self._largest = 0.0
        self._count = 0

    def add(self, weights: mx.array, stored: tuple[mx.array, ...]) -> None:
        """Add rows of the source and their stored form."""
        every = self._every
        exact = weights[::every].astype(mx.float32)
        kept = dequantise(tuple(part[::every] for part in stored), self._quantization)
        difference = exact - kept
        self._squares += _number(mx.square(difference).sum())
        self._source_squares += _number(mx.square(exact).sum())
        self._largest = max(self._largest, _number(mx.abs(difference).max()))
        self._count += exact.size

    @property
    def error(self) -> WeightError:
        """The error of all rows so far; zero for a tensor of zeros."""
        if self._source_squares == 0.0:
            return WeightError(0.0, 0.0)
        mean = (self._squares / self._source_squares) ** 0.5
        largest = self._largest / (self._source_squares / self._count) ** 0.5
        return WeightError(round(mean, 6), round(largest, 6))


def _number(scalar: mx.array) -> float:
    return cast("float", scalar.item())
