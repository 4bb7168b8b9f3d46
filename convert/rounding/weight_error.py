"""How far stored weights are from the source's, tensor by tensor."""

from dataclasses import dataclass
from typing import cast

import mlx.core as mx

from magistral_mlx.checkpoint.quantization import Quantization

SAMPLED_ROWS = 16
"""A conversion measures every 16th row of a block: all of them would take as long as rounding."""


@dataclass(frozen=True, slots=True)
class WeightError:
    """How far stored weights are from the source's.

    mean: norm of the difference over the norm of the source's weights.
    largest: largest difference of one weight over the root mean square of the source's weights.
    """

    mean: float
    largest: float


class ErrorMeter:
    """Adds up the error of one tensor, block by block."""

    def __init__(self, quantization: Quantization | None, *, every: int = SAMPLED_ROWS) -> None:
        self._quantization = quantization
        self._every = every
        self._squares = self._source_squares = self._largest = 0.0
        self._count = 0

    def add(self, weights: mx.array, stored: tuple[mx.array, ...]) -> None:
        """Take rows of the source and what is stored for them."""
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
        """Of all rows so far; zero for a tensor of zeros."""
        if self._source_squares == 0.0:
            return WeightError(0.0, 0.0)
        mean = (self._squares / self._source_squares) ** 0.5
        largest = self._largest / (self._source_squares / self._count) ** 0.5
        return WeightError(round(mean, 6), round(largest, 6))


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


def _number(scalar: mx.array) -> float:
    return cast("float", scalar.item())
