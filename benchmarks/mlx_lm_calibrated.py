"""mlx-lm's own GPTQ and AWQ on a given text: its commands download theirs.

On MLX's CPU backend, NumPy multiplies matrices for it: MLX's products take twenty times as long
there, and the numbers differ only by the order of sums.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.quant.awq import AWQ_MODEL_CONFIGS, awq_quantize, update_config
from mlx_lm.quant.gptq import gptq_quantize
from mlx_lm.utils import load, save

from magistral_mlx.checkpoint.folder import find_tokenizer_file
from magistral_mlx.convert.rounding.calibration import calibration_pieces
from magistral_mlx.convert.rounding.layer_walk import product
from magistral_mlx.convert.vocabulary.open_vocabulary import open_vocabulary
from magistral_mlx.device import on_cpu

Way = Literal["GPTQ", "AWQ"]


@dataclass(frozen=True, slots=True)
class Storage:
    """How weights are stored; neither way calibrates the embedding."""

    bits: int
    group_size: int
    embedding_bits: int


def write_calibrated(source: Path, output: Path, text: Path, *, way: Way, storage: Storage) -> Path:
    """Quantise a bf16 folder."""
    # Compiling on MLX's CPU backend calls a C++ compiler for every shape.
    mx.disable_compile()
    model, tokenizer, config = load(str(source), return_config=True)
    model.set_dtype(mx.float32)
    vocabulary = open_vocabulary(find_tokenizer_file(source), vocab_size=config["vocab_size"])
    pieces = mx.array(calibration_pieces(text, vocabulary))
    with numpy_products():
        if way == "GPTQ":
            model, changed = _gptq(model, pieces, storage)
        else:
            changed = _awq(model, config, pieces, storage)
    model.set_dtype(mx.bfloat16)
    save(output, str(source), model, tokenizer, config | changed)
    return output


def _gptq(model: nn.Module, pieces: mx.array, storage: Storage) -> tuple[nn.Module, dict[str, Any]]:
    size = storage.group_size
    stored = (storage.bits, size, storage.embedding_bits, size)
    model, quantization = gptq_quantize(model, pieces, *stored, batch_size=1)
    return model, {"quantization": quantization, "quantization_config": quantization}


def _awq(
    model: nn.Module, config: dict[str, Any], pieces: mx.array, storage: Storage
) -> dict[str, Any]:
    awq_quantize(
        model,
        pieces,
        AWQ_MODEL_CONFIGS[config["model_type"]],
        bits=storage.bits,
        group_size=storage.group_size,
        embed_bits=storage.embedding_bits,
        embed_group_size=storage.group_size,
    )
    changed: dict[str, Any] = update_config(model, config)
    return changed | {"quantization_config": changed["quantization"]}


@contextmanager
def numpy_products() -> Iterator[None]:
    """Replace MLX's products while the block runs; on a GPU nothing changes."""
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
