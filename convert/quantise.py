"""One block of rows in its stored form."""

import mlx.core as mx

from magistral_mlx.convert.read_ahead import Block
from magistral_mlx.convert.source import Rows, as_array
from magistral_mlx.errors import CheckpointError
from magistral_mlx.model_config import Quantization

DTYPES = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}


class NotFiniteError(CheckpointError):
    """A weight is no number, or none in the type asked for."""


def stored_names(name: str, quantization: Quantization | None) -> tuple[str, ...]:
    """The tensors that a tensor of the source becomes."""
    if quantization is None:
        return (name,)
    module = name.removesuffix(".weight")
    return name, f"{module}.scales", f"{module}.biases"


def stored_rows(
    block: Block, rows: Rows, *, quantization: Quantization | None, dtype: str
) -> tuple[mx.array, tuple[mx.array, ...]]:
    """The rows in `dtype`, and what is stored for them, in the order of `stored_names`.

    The steps are those of `mlx_lm.convert`: cast to `dtype` first, quantise then. Raises
    NotFiniteError when a value does not fit `dtype`.
    """
    weights = as_array(rows, block.tensor.dtype).astype(DTYPES[dtype])
    stored: tuple[mx.array, ...] = (weights,)
    if quantization is not None:
        stored = tuple(
            mx.quantize(weights, group_size=quantization.group_size, bits=quantization.bits)
        )
    mx.eval(weights, stored)
    _check_finite(block.tensor.name, stored, dtype)
    return weights, stored


def _check_finite(name: str, stored: tuple[mx.array, ...], dtype: str) -> None:
    """An infinity or an overflow in the weights shows in the scales, 1/64 of the work."""
    for values in stored:
        if mx.issubdtype(values.dtype, mx.floating) and not mx.all(mx.isfinite(values)).item():
            raise NotFiniteError(
                f"{name} is not finite in {dtype}: the source is damaged or needs a wider type "
                "(--dtype bfloat16 or float32)."
            )
