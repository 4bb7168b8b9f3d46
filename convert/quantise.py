"""One tensor of the source, block of rows by block of rows, in its stored form."""

from collections.abc import Iterator

import mlx.core as mx

from magistral_mlx.convert.source import SourceTensor, row_bytes
from magistral_mlx.errors import CheckpointError
from magistral_mlx.model_config import Quantization

BLOCK_BYTES = 32 << 20
"""Source bytes in memory at a time. Rows are quantised independently: any size, same result."""

DTYPES = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}


def stored_blocks(
    tensor: SourceTensor, *, quantization: Quantization, dtype: str
) -> Iterator[tuple[int, dict[str, mx.array]]]:
    """Yield, top to bottom, the source bytes read and the rows of each stored tensor by name.

    Matrices become weight (uint32), scales and biases, vectors are cast. The steps are those of
    `mlx_lm.convert`: cast to `dtype` first, quantise then. Raises CheckpointError when a value
    does not fit `dtype`.
    """
    width = row_bytes(tensor)
    rows = max(1, BLOCK_BYTES // width)
    for start in range(0, tensor.shape[0], rows):
        stop = min(start + rows, tensor.shape[0])
        block = tensor.read_rows(start, stop).astype(DTYPES[dtype])
        stored = _stored(tensor.name, block, quantization)
        mx.eval(stored)
        _check_finite(stored, dtype)
        yield (stop - start) * width, stored
    # Freed buffers of this tensor's shape would otherwise pile up, shape by shape.
    mx.clear_cache()


def _stored(name: str, block: mx.array, quantization: Quantization) -> dict[str, mx.array]:
    if block.ndim == 1:
        return {name: block}
    weight, scales, biases = mx.quantize(
        block, group_size=quantization.group_size, bits=quantization.bits
    )
    module = name.removesuffix(".weight")
    return {name: weight, f"{module}.scales": scales, f"{module}.biases": biases}


def _check_finite(stored: dict[str, mx.array], dtype: str) -> None:
    """An infinity or an overflow in the weights shows in the scales, 1/64 of the work."""
    for name, values in stored.items():
        if values.dtype != mx.uint32 and not mx.all(mx.isfinite(values)).item():
            raise CheckpointError(
                f"{name} is not finite in {dtype}: the source is damaged or needs a wider type "
                "(--dtype bfloat16 or float32)."
            )
