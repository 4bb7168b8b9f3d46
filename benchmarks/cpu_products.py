"""Products of matrices by NumPy while a program of others runs on MLX's CPU backend.

MLX's own take twenty times as long there; the numbers are the same but for the order of sums.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import mlx.core as mx
import numpy as np

from magistral_mlx.convert.rounding.layer_walk import product
from magistral_mlx.device import on_cpu


@contextmanager
def cpu_products() -> Iterator[None]:
    """Take them instead of MLX's while the block runs; on a GPU nothing changes."""
    with ExitStack() as stack:
        if on_cpu():
            stack.enter_context(patch.object(mx.array, "__matmul__", _matmul))
            stack.enter_context(patch.object(mx, "quantized_matmul", _quantized_matmul))
            stack.enter_context(patch.object(mx, "einsum", _einsum))
            stack.enter_context(patch.object(mx.fast, "scaled_dot_product_attention", _attention))
        yield


def _matmul(left: mx.array, right: mx.array) -> mx.array:
    return mx.array(np.matmul(np.asarray(left), np.asarray(right)))


def _quantized_matmul(
    inputs: mx.array,
    packed: mx.array,
    scales: mx.array,
    biases: mx.array,
    *,
    transpose: bool,
    group_size: int,
    bits: int,
    mode: str = "affine",
) -> mx.array:
    assert transpose, "as a layer multiplies"
    matrix = mx.dequantize(packed, scales, biases, group_size=group_size, bits=bits, mode=mode)
    return product(inputs, matrix)


def _einsum(subscripts: str, inputs: mx.array, matrix: mx.array) -> mx.array:
    """(tokens, groups, size) by (rows, groups, size): each group by itself."""
    assert subscripts == "bdg,odg->bod", subscripts
    left, right = np.asarray(inputs), np.asarray(matrix)
    return mx.array(np.matmul(left.transpose(1, 0, 2), right.transpose(1, 2, 0)).transpose(1, 2, 0))


def _attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    *,
    scale: float,
    mask: str | None = None,
    sinks: None = None,
) -> mx.array:
    """Causal attention of whole texts (texts, heads, tokens, head_dim)."""
    assert mask == "causal", mask
    assert sinks is None
    shared = queries.shape[1] // keys.shape[1]
    left, right, last = (np.asarray(part) for part in (queries, keys, values))
    right, last = (np.repeat(part, shared, axis=1) for part in (right, last))
    scores = np.matmul(left, right.swapaxes(2, 3)) * np.float32(scale)
    scores[..., np.triu(np.ones(scores.shape[-2:], bool), k=1)] = -np.inf
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return mx.array(np.matmul(scores / scores.sum(-1, keepdims=True), last))
