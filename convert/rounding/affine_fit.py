"""Scale and bias of each group of weights, with the least squared error, in MLX's affine format.

Plain rounding spreads the steps from a group's smallest to its largest weight. A narrower range
rounds most weights finer and clips a few. The fit tries several ranges, then fits scale and bias by
least squares to the steps that the weights were rounded to.
"""

from dataclasses import dataclass

import mlx.core as mx

from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.rounding.stored_form import dequantise, pack
from magistral_mlx.device import on_cpu

CPU_WEIGHTS = 1 << 18
"""Weights that are fitted at once on MLX's CPU backend: they stay in the processor's cache."""

ENDS = (-0.01, 0.03, 0.07, 0.11)
"""Fractions of a group's range that are cut off at either end. At 4 bits in groups of 32, these
four leave 0.74 of the squared error of plain rounding; six ends leave 0.73, and nine ends with four
rounds each 0.72."""

ROUNDS = 1
"""Fits that alternate with rounding, after the best range is found."""

TINY = 1e-20
LEAST_SPREAD = 1e-6


def fitted(
    weights: mx.array, quantization: Quantization, importance: mx.array | None = None
) -> tuple[mx.array, mx.array, mx.array]:
    """Packed weights, scales and biases for weights (rows, columns).

    importance: (columns,), the weight of each column's squared error; equal by default.
    """
    step = max(1, CPU_WEIGHTS // weights.shape[1]) if on_cpu() else weights.shape[0]
    parts = []
    for start in range(0, weights.shape[0], step):
        part = _fitted_rows(weights[start : start + step], quantization, importance)
        mx.eval(part)
        parts.append(part)
    packed, scales, biases = (mx.concatenate([part[n] for part in parts]) for n in range(3))
    return packed, scales, biases


def _fitted_rows(
    weights: mx.array, quantization: Quantization, importance: mx.array | None
) -> tuple[mx.array, mx.array, mx.array]:
    size, bits = quantization.group_size, quantization.bits
    rows = weights.shape[0]
    groups = weights.astype(mx.float32).reshape(rows, -1, size)
    counts = None if importance is None else importance.reshape(1, -1, size)

    def errors(stored: tuple[mx.array, ...]) -> mx.array:  # (rows, groups)
        squares = mx.square(dequantise(stored, quantization).reshape(groups.shape) - groups)
        return (squares if counts is None else squares * counts).sum(-1)

    fit = fit_groups(groups, bits=bits, dtype=weights.dtype, importance=counts)
    found = (
        pack(fit.steps.reshape(rows, -1), bits=bits),
        fit.scales.squeeze(-1),
        fit.biases.squeeze(-1),
    )
    plain = tuple(mx.quantize(weights, group_size=size, bits=bits))
    # Far from zero, 16 bits are too coarse for a fitted bias: plain rounding picks a better one.
    better = errors(found) <= errors(plain)
    words = (rows, -1, size * bits // 32)
    packed = mx.where(better[..., None], found[0].reshape(words), plain[0].reshape(words))
    scales, biases = (mx.where(better, found[n], plain[n]) for n in (1, 2))
    return packed.reshape(rows, -1), scales, biases


@dataclass(frozen=True, slots=True)
class AffineGroups:
    """Scale and bias of each group (..., 1) in the stored type, and the weights' steps (..., g)."""

    scales: mx.array
    biases: mx.array
    steps: mx.array


def fit_groups(
    groups: mx.array, *, bits: int, dtype: mx.Dtype, importance: mx.array | None = None
) -> AffineGroups:
    """Fit groups (..., g) of float32 weights.

    importance: the weight of each squared error, broadcast to the groups; equal by default.
    """
    means = _mean(groups, importance)
    # With centred weights, the fit is a ratio of two sums without cancellation.
    fit = _Fit(groups - means, (1 << bits) - 1, importance)
    scale, bias = fit.best_range()
    for _ in range(ROUNDS):
        _, scale, bias = fit.least_squares(fit.steps(scale, bias), scale, bias)
    scales = scale.astype(dtype)
    rounded = mx.maximum(scales.astype(mx.float32), TINY)
    # The bias is fitted to the rounded scale, and the steps to both as rounded.
    bias = -rounded * _mean(fit.steps(rounded, bias), importance)
    biases = (bias + means).astype(dtype)
    return AffineGroups(scales, biases, fit.steps(rounded, biases.astype(mx.float32) - means))


@dataclass(frozen=True, slots=True)
class _Fit:
    """The search over groups with a (weighted) mean of zero. last: the highest step."""

    groups: mx.array
    last: int
    importance: mx.array | None

    def best_range(self) -> tuple[mx.array, mx.array]:
        """The best scale and bias of all ranges that are tried."""
        low = self.groups.min(-1, keepdims=True)
        span = self.groups.max(-1, keepdims=True) - low
        most, best_scale, best_bias = mx.array(-1.0), mx.zeros_like(low), mx.zeros_like(low)
        for bottom in ENDS:
            for top in ENDS:
                scale = mx.maximum(span * ((1 - bottom - top) / self.last), TINY)
                bias = low + bottom * span
                gain, scale, bias = self.least_squares(self.steps(scale, bias), scale, bias)
                better = gain > most
                best_scale = mx.where(better, scale, best_scale)
                best_bias = mx.where(better, bias, best_bias)
                most = mx.maximum(gain, most)
        return best_scale, best_bias

    def steps(self, scale: mx.array, bias: mx.array) -> mx.array:
        """The nearest step of every weight, an integer as float32."""
        return mx.clip(mx.round((self.groups - bias) * (1 / scale)), 0, self.last)

    def least_squares(
        self, steps: mx.array, scale: mx.array, bias: mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Returns gain, scale and bias; the given pair if all weights of a group share a step.

        gain: how much of the mean squared weight the fit explains.
        """
        mean = _mean(steps, self.importance)
        spread = _mean(mx.square(steps), self.importance) - mx.square(mean)
        shared = _mean(steps * self.groups, self.importance)
        fits = mx.logical_and(spread > LEAST_SPREAD, shared > 0)
        slope = shared / mx.maximum(spread, LEAST_SPREAD)
        gain = mx.where(fits, shared * slope, 0)
        return gain, mx.where(fits, slope, scale), mx.where(fits, -slope * mean, bias)


def _mean(values: mx.array, importance: mx.array | None) -> mx.array:
    if importance is None:
        return values.mean(-1, keepdims=True)
    total = importance.sum(-1, keepdims=True)
    return (values * importance).sum(-1, keepdims=True) / total
