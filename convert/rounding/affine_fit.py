"""Scale and bias of every group of weights, chosen for the least squared error.

Plain rounding spreads the steps from a group's smallest to its largest weight. A narrower range
rounds most weights finer and clips a few: which range is best is tried at both ends, then scale and
bias are fitted to the steps that the weights fell on by least squares. The stored format is MLX's.
"""

from dataclasses import dataclass

import mlx.core as mx

ENDS = (-0.01, 0.03, 0.07, 0.11)
"""Shares of a group's range that are cut off at either end. More of them gain little: of the
squared error that plain rounding leaves at 4 bits and groups of 32, these leave 0.74, six ends
0.73, and four rounds for each of nine ends 0.72."""

ROUNDS = 1
"""Fits in turn with rounding, after the best range was found."""

TINY = 1e-20
LEAST_SPREAD = 1e-6


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

    importance: what the squared error of each weight counts, of a shape that fits the groups';
    by default all weights count the same.
    """
    means = _mean(groups, importance)
    # Centred weights make the fit a ratio of two sums without cancellation.
    fit = _Fit(groups - means, (1 << bits) - 1, importance)
    scale, bias = fit.best_range()
    for _ in range(ROUNDS):
        _, scale, bias = fit.least_squares(fit.steps(scale, bias), scale, bias)
    scales = scale.astype(dtype)
    rounded = mx.maximum(scales.astype(mx.float32), TINY)
    # Each of scale, bias and steps is chosen for what the one before was rounded to.
    bias = -rounded * _mean(fit.steps(rounded, bias), importance)
    biases = (bias + means).astype(dtype)
    return AffineGroups(scales, biases, fit.steps(rounded, biases.astype(mx.float32) - means))


@dataclass(frozen=True, slots=True)
class _Fit:
    """The search over groups whose (weighted) mean is zero."""

    groups: mx.array
    last: int
    importance: mx.array | None

    def best_range(self) -> tuple[mx.array, mx.array]:
        """The scale and bias that fit best, of all ranges that are tried."""
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
        """The step (a whole number as float32) that every weight is nearest to."""
        return mx.clip(mx.round((self.groups - bias) * (1 / scale)), 0, self.last)

    def least_squares(
        self, steps: mx.array, scale: mx.array, bias: mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        """How much of the squared weights the best scale and bias for these steps explain, and
        they; those given where all weights share a step.
        """
        mean = _mean(steps, self.importance)
        spread = _mean(mx.square(steps), self.importance) - mx.square(mean)
        shared = _mean(steps * self.groups, self.importance)
        fits = mx.logical_and(spread > LEAST_SPREAD, shared > 0)
        fitted = shared / mx.maximum(spread, LEAST_SPREAD)
        gain = mx.where(fits, shared * fitted, 0)
        return gain, mx.where(fits, fitted, scale), mx.where(fits, -fitted * mean, bias)


def _mean(values: mx.array, importance: mx.array | None) -> mx.array:
    if importance is None:
        return values.mean(-1, keepdims=True)
    total = importance.sum(-1, keepdims=True)
    return (values * importance).sum(-1, keepdims=True) / total
