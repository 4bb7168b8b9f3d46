"""One block of rows in its stored form."""

import mlx.core as mx

from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.rounding.affine_fit import fit_groups
from magistral_mlx.convert.rounding.feedback import Feedback
from magistral_mlx.convert.rounding.settings import Method
from magistral_mlx.convert.rounding.stored_form import pack
from magistral_mlx.convert.rounding.weight_error import dequantise
from magistral_mlx.convert.sources.read_ahead import Block
from magistral_mlx.convert.sources.source import Rows, as_array
from magistral_mlx.device import dtype_of, on_cpu
from magistral_mlx.errors import CheckpointError

CPU_WEIGHTS = 1 << 18
"""Weights that are fitted at once on MLX's CPU backend: more would leave its cache."""


class NotFiniteError(CheckpointError):
    """A weight is no number, or none in the type asked for."""


def stored_names(name: str, quantization: Quantization | None) -> tuple[str, ...]:
    """The tensors that a tensor of the source becomes."""
    if quantization is None:
        return (name,)
    module = name.removesuffix(".weight")
    names = (name, f"{module}.scales", f"{module}.biases")
    return names if quantization.has_biases else names[:2]


def stored_rows(
    block: Block,
    rows: Rows,
    *,
    quantization: Quantization | None,
    dtype: str,
    method: Method,
    importance: mx.array | None = None,
    feedback: Feedback | None = None,
) -> tuple[mx.array, tuple[mx.array, ...]]:
    """The rows in `dtype`, and what is stored for them, in the order of `stored_names`.

    importance: (columns,), what the squared error of each counts. feedback: rounds the rows
    instead, where they have scales and biases to choose.
    Plain rounding takes the steps of `mlx_lm.convert`: cast to `dtype` first, quantise then.
    Raises NotFiniteError when a value does not fit `dtype`.
    """
    weights = as_array(rows, block.tensor.dtype).astype(dtype_of(dtype))
    if quantization is None:
        stored: tuple[mx.array, ...] = (weights,)
    elif method == "optimal" and quantization.has_biases and feedback is not None:
        stored = feedback.stored(weights, quantization)
    elif method == "optimal" and quantization.has_biases:
        stored = fitted(weights, quantization, importance)
    else:
        stored = tuple(
            mx.quantize(
                weights,
                group_size=quantization.group_size,
                bits=quantization.bits,
                mode=quantization.mode,
            )
        )
    mx.eval(weights, stored)
    # Scales of one byte cannot show what is not finite.
    has_floats = quantization is None or quantization.has_biases
    _check_finite(block.tensor.name, stored if has_floats else (weights,), dtype)
    return weights, stored


def fitted(
    weights: mx.array, quantization: Quantization, importance: mx.array | None = None
) -> tuple[mx.array, mx.array, mx.array]:
    """Packed weights, scales and biases of least squared error, in MLX's affine format."""
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
    fit = fit_groups(groups, bits=bits, dtype=weights.dtype, importance=counts)
    found = (
        pack(fit.steps.reshape(rows, -1), bits=bits),
        fit.scales.squeeze(-1),
        fit.biases.squeeze(-1),
    )
    plain = tuple(mx.quantize(weights, group_size=size, bits=bits))
    # Far from zero, a bias of 16 bits is too coarse to be fitted: rounding picks a better one.
    better = _errors(groups, found, quantization, counts) <= _errors(
        groups, plain, quantization, counts
    )
    words = (rows, -1, size * bits // 32)
    packed = mx.where(better[..., None], found[0].reshape(words), plain[0].reshape(words))
    scales, biases = (mx.where(better, found[n], plain[n]) for n in (1, 2))
    return packed.reshape(rows, -1), scales, biases


def _errors(
    groups: mx.array,
    stored: tuple[mx.array, ...],
    quantization: Quantization,
    counts: mx.array | None,
) -> mx.array:
    """The squared error of every group: (rows, groups)."""
    squares = mx.square(dequantise(stored, quantization).reshape(groups.shape) - groups)
    return (squares if counts is None else squares * counts).sum(-1)


def _check_finite(name: str, stored: tuple[mx.array, ...], dtype: str) -> None:
    """An infinity or an overflow in the weights shows in the scales, 1/64 of the work."""
    for values in stored:
        if mx.issubdtype(values.dtype, mx.floating) and not mx.all(mx.isfinite(values)).item():
            raise NotFiniteError(
                f"{name} is not finite in {dtype}: the source is damaged or needs a wider type "
                "(--dtype bfloat16 or float32)."
            )
