"""Error feedback (GPTQ, Frantar et al. 2022): later columns compensate the error of earlier ones.

How much they can depends on how the columns' inputs correlate in a calibration text. Scale and bias
of a group are fitted in turn, to its weights as compensated so far; each column is weighted by the
effect of its error.
"""

from collections.abc import Iterable

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.rounding.affine_fit import fit_groups
from magistral_mlx.convert.rounding.stored_form import pack

Matrix = npt.NDArray[np.float32]

MOST_COLUMNS = 5120
"""Columns that compensate each other. More would take gigabytes: 32,768 squared are 4."""

DAMPING = 0.01
"""Fraction of the mean diagonal that is added to it: rare inputs are not trusted."""

TRUST = 0.7
"""Factor on the correlations of the text. With 8,192 tokens, and measured on another text, 0.7 left
0.95, 0.92, 0.90 and 0.79 of the output error that 1.0 leaves (q, o, gate and down of a layer of
SmolLM2 135M, 4 bits); 0.5 left about as much."""


class Feedback:
    """Rounds the matrices of modules with a common input."""

    def __init__(self, inputs: Iterable[mx.array]) -> None:
        """inputs: (tokens, columns) each."""
        self._spreads = tuple(map(_spread, _sums(inputs)))

    def stored(
        self, weights: mx.array, quantization: Quantization
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Packed weights, scales and biases of weights (rows, columns), in MLX's affine format."""
        columns = np.ascontiguousarray(np.asarray(weights.astype(mx.float32)).T)
        steps = np.empty_like(columns)
        found: list[tuple[mx.array, mx.array]] = []
        start = 0
        for spread in self._spreads:
            part = slice(start, start + len(spread))
            found += _part_steps(columns[part], spread, quantization, weights.dtype, steps[part])
            start = part.stop
        packed = pack(mx.array(np.ascontiguousarray(steps.T)), bits=quantization.bits)
        scales = mx.concatenate([scale for scale, _ in found], axis=1)
        return packed, scales, mx.concatenate([bias for _, bias in found], axis=1)


def _part_steps(
    columns: Matrix, spread: Matrix, quantization: Quantization, dtype: mx.Dtype, steps: Matrix
) -> list[tuple[mx.array, mx.array]]:
    """Fill in the steps (columns, rows), and return scale and bias (rows, 1) of every group."""
    size, last = quantization.group_size, (1 << quantization.bits) - 1
    weights = columns.copy()
    found = []
    for start in range(0, len(weights), size):
        group = slice(start, start + size)
        effect = np.asarray(1 / np.square(np.diagonal(spread)[group]), np.float32)
        scale, bias = _fit(weights[group], effect, quantization.bits, dtype)
        exact = mx.concatenate([scale, bias], axis=1).astype(mx.float32)
        errors = _group_steps(
            weights[group], spread[group, group], np.asarray(exact), last, steps[group]
        )
        weights[group.stop :] -= spread[group, group.stop :].T @ errors
        found.append((scale, bias))
    return found


def _group_steps(weights: Matrix, spread: Matrix, fit: Matrix, last: int, steps: Matrix) -> Matrix:
    """Round the columns of a group in turn, and return the errors that later groups compensate."""
    scale, bias = fit.T
    inverse = np.where(scale == 0, 0, 1 / np.where(scale == 0, 1, scale))
    errors = np.empty_like(weights)
    for column in range(len(weights)):
        steps[column] = np.clip(np.rint((weights[column] - bias) * inverse), 0, last)
        kept = steps[column] * scale + bias
        errors[column] = (weights[column] - kept) / spread[column, column]
        weights[column + 1 :] -= np.outer(spread[column, column + 1 :], errors[column])
    return errors


def _fit(columns: Matrix, effect: Matrix, bits: int, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
    groups = mx.array(np.ascontiguousarray(columns.T))[:, None, :]
    importance = mx.array(effect / effect.mean())[None, None, :]
    fit = fit_groups(groups, bits=bits, dtype=dtype, importance=importance)
    mx.eval(fit.scales, fit.biases)
    return fit.scales[:, 0], fit.biases[:, 0]


def _sums(inputs: Iterable[mx.array]) -> list[Matrix]:
    """X^T X of the inputs X (tokens, columns), for each part of at most MOST_COLUMNS columns."""
    sums: list[Matrix] = []
    for piece in inputs:
        numbers = np.asarray(piece.astype(mx.float32))
        starts = range(0, numbers.shape[1], MOST_COLUMNS)
        parts = [numbers[:, start : start + MOST_COLUMNS] for start in starts]
        sums = sums or [np.zeros((part.shape[1], part.shape[1]), np.float32) for part in parts]
        for total, part in zip(sums, parts, strict=True):
            total += part.T @ part
    return sums


def _spread(sums: Matrix) -> Matrix:
    """The upper Cholesky factor of the inverse of the damped sums."""
    diagonal = np.diagonal(sums)
    sums = TRUST * sums + np.diag((1 - TRUST) * diagonal).astype(np.float32)
    silent = diagonal == 0
    mean = float(diagonal[~silent].mean()) if not silent.all() else 1.0
    damping = DAMPING
    while True:
        damped = sums + np.diag(np.where(silent, mean, damping * mean).astype(np.float32))
        try:
            inverse = np.linalg.inv(np.linalg.cholesky(damped))
            return np.ascontiguousarray(np.linalg.cholesky(inverse.T @ inverse).T)
        except np.linalg.LinAlgError:
            damping *= 10  # with few tokens, rounding errors can make the sums indefinite
