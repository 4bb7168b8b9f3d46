"""How far the stored weights are from the source's, tensor by tensor."""

from dataclasses import dataclass
from typing import cast

import mlx.core as mx

from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.rounding.stored_form import dequantise

SAMPLED_ROWS = 16
"""A conversion measures every 16th row of a block: measuring all takes as long as rounding."""


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
