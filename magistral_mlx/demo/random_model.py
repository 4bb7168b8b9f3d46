"""Models of any shape with random weights: for measuring time and memory.

Such a model draws tokens that have text, and never an end token: the rows of control tokens in
its head are zeros, and others beat them.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import mlx.core as mx

from magistral_mlx.demo.tekken import SPECIAL_TOKENS, write_tekken
from magistral_mlx.model_config import ModelConfig, Quantization
from magistral_mlx.weight_shapes import plain_shapes

SHARD_BYTES = 1_000_000_000


def write_random_model(folder: Path, config: ModelConfig, *, seed: int = 0) -> Path:
    """Write an ordinary MLX folder, which mlx-lm opens too, and return it.

    Tensors are made one after the other, so memory holds one file of SHARD_BYTES and a tensor.
    """
    folder.mkdir(parents=True)
    shard: dict[str, mx.array] = {}
    number = 1
    for name, array in _tensors(config, seed):
        if shard and sum(stored.nbytes for stored in shard.values()) + array.nbytes > SHARD_BYTES:
            _save(folder, number, shard)
            shard, number = {}, number + 1
        shard[name] = array
    _save(folder, number, shard)
    write_tekken(folder / "tekken.json", vocab_size=config.vocab_size)
    (folder / "config.json").write_text(json.dumps(_hf_config(config), indent=4), encoding="utf-8")
    return folder


def _save(folder: Path, number: int, shard: dict[str, mx.array]) -> None:
    mx.save_safetensors(str(folder / f"model-{number:05d}.safetensors"), shard, {"format": "mlx"})


def _tensors(config: ModelConfig, seed: int) -> Iterator[tuple[str, mx.array]]:
    """What the folder stores, by mlx-lm's names, computed."""
    dtype = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}[config.dtype]
    for index, (name, shape) in enumerate(plain_shapes(config).items()):
        if len(shape) == 1:
            yield name, mx.ones(shape, dtype)
            continue
        scale = shape[1] ** -0.5  # keeps what flows through the layers at about 1
        key = mx.random.key(seed + index)
        matrix = mx.random.normal(shape, scale=scale, key=key).astype(dtype)
        if name == "lm_head.weight":
            matrix[:SPECIAL_TOKENS] = 0
        for part, array in _stored(name, matrix, config.quantization):
            mx.eval(array)
            yield part, array


def _stored(
    name: str, matrix: mx.array, quantization: Quantization | None
) -> list[tuple[str, mx.array]]:
    if quantization is None:
        return [(name, matrix)]
    weight, scales, biases = mx.quantize(
        matrix, group_size=quantization.group_size, bits=quantization.bits
    )
    module = name.removesuffix(".weight")
    return [(name, weight), (f"{module}.scales", scales), (f"{module}.biases", biases)]


def _hf_config(config: ModelConfig) -> dict[str, object]:
    fields = asdict(config)
    stored, dtype = fields.pop("quantization"), fields.pop("dtype")
    shape = {**fields, "torch_dtype": dtype, "sliding_window": None}
    shape |= {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
    shape |= {"hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2}
    return shape if stored is None else {**shape, "quantization": stored}
