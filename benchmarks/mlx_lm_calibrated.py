"""mlx-lm's own GPTQ and AWQ on a text of ours: its commands take theirs from the network."""

from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
from cpu_products import cpu_products
from mlx_lm.quant.awq import AWQ_MODEL_CONFIGS, awq_quantize, update_config
from mlx_lm.quant.gptq import gptq_quantize
from mlx_lm.utils import load, save

from magistral_mlx.convert.rounding.calibration import calibration_pieces
from magistral_mlx.convert.vocabulary.open_vocabulary import open_vocabulary, vocabulary_file

Way = Literal["GPTQ", "AWQ"]


def write_calibrated(
    source: Path,
    output: Path,
    text: Path,
    *,
    way: Way,
    bits: int,
    group_size: int,
    embedding_bits: int,
) -> Path:
    """Quantise a bf16 folder; neither calibrates the embedding."""
    # Compiling on MLX's CPU backend calls a C++ compiler for every shape.
    mx.disable_compile()
    model, tokenizer, config = load(str(source), return_config=True)
    model.set_dtype(mx.float32)
    path = vocabulary_file(source)
    vocabulary = open_vocabulary(path, vocab_size=config["vocab_size"])
    pieces = mx.array(calibration_pieces(text, vocabulary))
    quantise = _gptq if way == "GPTQ" else _awq
    with cpu_products():
        model, config = quantise(model, config, pieces, (bits, group_size), embedding_bits)
    model.set_dtype(mx.bfloat16)
    save(output, str(source), model, tokenizer, config)
    return output


def _gptq(
    model: nn.Module,
    config: dict[str, Any],
    pieces: mx.array,
    stored: tuple[int, int],
    embedding_bits: int,
) -> tuple[nn.Module, dict[str, Any]]:
    rest = embedding_bits, stored[1]
    quantised, quantization = gptq_quantize(model, pieces, *stored, *rest, batch_size=1)
    return quantised, config | {
        "quantization": quantization,
        "quantization_config": quantization,
    }


def _awq(
    model: nn.Module,
    config: dict[str, Any],
    pieces: mx.array,
    stored: tuple[int, int],
    embedding_bits: int,
) -> tuple[nn.Module, dict[str, Any]]:
    bits, group_size = stored
    awq_quantize(
        model,
        pieces,
        AWQ_MODEL_CONFIGS[config["model_type"]],
        bits=bits,
        group_size=group_size,
        embed_bits=embedding_bits,
        embed_group_size=group_size,
    )
    config = update_config(model, config)
    return model, config | {"quantization_config": config["quantization"]}
