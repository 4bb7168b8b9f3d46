"""mlx-lm's own GPTQ on a text of ours: its command takes its text from the network."""

from pathlib import Path

import mlx.core as mx
from mlx_lm.quant.gptq import gptq_quantize
from mlx_lm.utils import load, save

from magistral_mlx.convert.calibration import calibration_pieces
from magistral_mlx.convert.vocabulary import open_vocabulary, vocabulary_file


def write_gptq(source: Path, output: Path, text: Path, *, bits: int, group_size: int) -> Path:
    """Quantise a bf16 folder; what mlx-lm does not calibrate gets as many bits as the rest."""
    # Compiling on MLX's CPU backend calls a C++ compiler for every shape.
    mx.disable_compile()
    model, tokenizer, config = load(str(source), return_config=True)
    model.set_dtype(mx.float32)
    path = vocabulary_file(source)
    pieces = calibration_pieces(text, open_vocabulary(path, vocab_size=config["vocab_size"]))
    model, stored = gptq_quantize(
        model, mx.array(pieces), bits, group_size, bits, group_size, batch_size=1
    )
    model.set_dtype(mx.bfloat16)
    config["quantization"] = config["quantization_config"] = stored
    save(output, str(source), model, tokenizer, config)
    return output
