"""Models of any shape with random weights: for measuring time and memory.

It draws tokens that have text, and never an end token: its head has zeros in the rows of control
tokens, so that others are likelier.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.checkpoint.weight_shapes import plain_shapes
from magistral_mlx.demo.tekken import SPECIAL_TOKENS, write_tekken
from magistral_mlx.device import dtype_of

SHARD_BYTES = 1_000_000_000
BLOCK_WEIGHTS = 32_000_000
"""Weights of a matrix that are made at once."""


def write_random_model(folder: Path, config: ModelConfig, *, seed: int = 0) -> Path:
    """Write an ordinary MLX folder, which mlx-lm opens too, and return it.

    Tensors are made one after the other: memory holds one file of SHARD_BYTES and a tensor.
    """
    folder.mkdir(parents=True)
    shard: dict[str, mx.array] = {}
    number = 1
    for name, array in random_tensors(config, seed=seed):
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


def random_tensors(config: ModelConfig, *, seed: int = 0) -> Iterator[tuple[str, mx.array]]:
    """The tensors of such a folder by mlx-lm's names, computed one after the other.

    A large matrix is quantised a few rows at a time: making Magistral Small takes hardly more
    memory than holding it.
    """
    dtype = dtype_of(config.dtype)
    for index, (name, shape) in enumerate(plain_shapes(config).items()):
        if len(shape) == 1:
            yield name, mx.ones(shape, dtype)
            continue
        parts: dict[str, list[mx.array]] = {}
        for block in _blocks(name, (shape[0], shape[1]), dtype, seed + index):
            for part, array in _stored(name, block, config.quantization):
                mx.eval(array)
                parts.setdefault(part, []).append(array)
        for part, arrays in parts.items():
            whole = arrays[0] if len(arrays) == 1 else mx.concatenate(arrays)
            arrays.clear()
            mx.eval(whole)
            yield part, whole


def _blocks(name: str, shape: tuple[int, int], dtype: mx.Dtype, seed: int) -> Iterator[mx.array]:
    """A matrix in pieces of about BLOCK_WEIGHTS weights, row by row."""
    rows, columns = max(1, BLOCK_WEIGHTS // shape[1]), shape[1]
    scale = columns**-0.5  # keeps hidden states at about 1
    for number, start in enumerate(range(0, shape[0], rows)):
        size = (min(rows, shape[0] - start), columns)
        key = mx.random.key(seed + number * 1_000_003)
        block = mx.random.normal(size, scale=scale, key=key).astype(dtype)
        if name == "lm_head.weight":
            block[: max(0, SPECIAL_TOKENS - start)] = 0
        yield block


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
