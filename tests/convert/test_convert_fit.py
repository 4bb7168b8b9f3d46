"""Scales and biases of least squared error: never worse than rounding, and MLX's own format."""

import mlx.core as mx
import numpy as np
import pytest

from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.rounding.affine_fit import CPU_WEIGHTS, fit_groups, fitted
from magistral_mlx.convert.rounding.stored_form import pack


def squared_error(weights: mx.array, stored: tuple[mx.array, ...], quant: Quantization) -> float:
    packed, scales, biases = stored
    kept = mx.dequantize(
        packed,
        scales.astype(mx.float32),
        biases.astype(mx.float32),
        group_size=quant.group_size,
        bits=quant.bits,
    )
    return float(mx.square(kept - weights.astype(mx.float32)).sum())


def rounded(weights: mx.array, quant: Quantization) -> tuple[mx.array, ...]:
    return tuple(mx.quantize(weights, group_size=quant.group_size, bits=quant.bits))


def normal(rows: int, columns: int, seed: int = 0) -> mx.array:
    numbers = np.random.default_rng(seed).normal(0, 0.02, (rows, columns))
    return mx.array(numbers.astype(np.float32)).astype(mx.bfloat16)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_numbers_are_packed_as_mlx_packs_them(bits: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 1 << bits, (16, 256)).astype(np.float32)
    ones, zeros = mx.ones((16, 4)), mx.zeros((16, 4))
    packed = pack(mx.array(numbers), bits=bits)
    unpacked = mx.dequantize(packed, ones, zeros, group_size=64, bits=bits)
    assert np.array_equal(np.array(unpacked), numbers)


@pytest.mark.parametrize(
    ("bits", "group_size", "share"),
    [(2, 64, 0.72), (3, 32, 0.73), (4, 32, 0.77), (4, 64, 0.83), (4, 128, 0.87), (8, 64, 0.68)],
)
def test_normal_weights_keep_this_share_of_the_error_of_rounding(
    bits: int, group_size: int, share: float
) -> None:
    weights, quant = normal(64, 512), Quantization(bits, group_size)
    plain = squared_error(weights, rounded(weights, quant), quant)
    assert squared_error(weights, fitted(weights, quant), quant) < share * plain


def test_no_way_of_fitting_scale_and_bias_to_the_steps_is_better() -> None:
    """NumPy's least squares for the steps that were stored, in double precision."""
    weights = normal(8, 256).astype(mx.float32)
    groups = weights.reshape(-1, 64)
    fit = fit_groups(groups, bits=4, dtype=mx.float32)
    for group, steps, scale, bias in zip(
        np.array(groups), np.array(fit.steps), np.array(fit.scales), np.array(fit.biases),
        strict=True,
    ):  # fmt: skip
        design = np.stack([steps, np.ones(64)], axis=1)
        best, *_ = np.linalg.lstsq(design, group, rcond=None)
        least = np.square(group - design @ best).sum()
        assert np.square(group - (steps * scale + bias)).sum() < 1.05 * least


EDGES = {
    "zeros": np.zeros(64),
    "all alike": np.full(64, 0.37),
    "one outlier": np.r_[np.zeros(63), 5.0],
    "two values": np.r_[np.full(32, -1.0), np.full(32, 3.0)],
    "on a grid": np.arange(64) % 16 * 0.25 - 2,
    "huge": np.linspace(-3e30, 3e30, 64),
    "tiny": np.linspace(-1e-12, 1e-12, 64),
    "far from zero": 1000 + np.linspace(-8, 8, 64),
}


@pytest.mark.parametrize("name", EDGES)
def test_unusual_groups_are_stored_no_worse_than_rounding_stores_them(name: str) -> None:
    quant = Quantization(4, 64)
    weights = mx.array(EDGES[name].astype(np.float32)[None]).astype(mx.bfloat16)
    stored = fitted(weights, quant)
    assert all(mx.all(mx.isfinite(part.astype(mx.float32))).item() for part in stored[1:])
    scale = float(mx.square(weights.astype(mx.float32)).sum())
    plain = squared_error(weights, rounded(weights, quant), quant)
    assert squared_error(weights, stored, quant) <= plain * 1.001 + 1e-9 * scale


def test_weights_of_more_importance_are_kept_better() -> None:
    groups = normal(64, 64).astype(mx.float32).reshape(-1, 64)
    importance = mx.concatenate([mx.full((8,), 50.0), mx.ones((56,))])

    def error(weighting: mx.array | None) -> float:
        fit = fit_groups(groups, bits=3, dtype=mx.bfloat16, importance=weighting)
        kept = fit.steps * fit.scales.astype(mx.float32) + fit.biases.astype(mx.float32)
        return float((mx.square(kept - groups) * importance).mean())

    assert error(importance) < 0.8 * error(None)


def test_the_rows_that_are_fitted_at_once_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, quant = normal(64, 256), Quantization(3, 64)
    whole = fitted(weights, quant)
    assert CPU_WEIGHTS > 64 * 256
    monkeypatch.setattr("magistral_mlx.convert.rounding.affine_fit.CPU_WEIGHTS", 1000)
    for one, other in zip(whole, fitted(weights, quant), strict=True):
        assert mx.array_equal(one, other).item()
