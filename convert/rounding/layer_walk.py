"""The forward pass over a text, one layer in memory at a time, and what goes into every matrix.

The arithmetic is that of model.py, without a KV cache: pieces of text, each from its beginning.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.device import on_cpu

Load = Callable[[str], mx.array]
"""A tensor by its name, in the type to compute in. Called when the walk gets there."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Modules that take the same input, and that input, piece by piece: (tokens, columns).

    What the modules' matrices are is asked for after the stage: they may be made from its input.
    """

    modules: tuple[str, ...]
    inputs: Callable[[], Iterator[mx.array]]


def walk(config: ModelConfig, pieces: Sequence[mx.array], load: Load) -> Iterator[Stage]:
    """All stages in the order of the forward pass.

    pieces: embedded tokens, (tokens, hidden) each. They are held for all pieces, and the output
    of one layer's attention; everything else for one piece at a time.
    """
    hidden = list(pieces)
    for layer in range(config.num_hidden_layers):
        yield from _layer(config, f"model.layers.{layer}", hidden, load)
    norm = load("model.norm.weight")
    yield Stage(("lm_head",), lambda: _normed(config, hidden, norm))


def product(inputs: mx.array, matrix: mx.array) -> mx.array:
    """Rows by a matrix (out, in). MLX's own on the CPU is many times slower than NumPy's."""
    return _matmul(inputs, matrix.T)


def _layer(config: ModelConfig, name: str, hidden: list[mx.array], load: Load) -> Iterator[Stage]:
    norm = load(f"{name}.input_layernorm.weight")
    queries, keys, values = (f"{name}.self_attn.{part}_proj" for part in "qkv")
    before = norm
    yield Stage((queries, keys, values), lambda: _normed(config, hidden, before))
    matrices = [load(f"{module}.weight") for module in (queries, keys, values)]
    attended = [_evaluated(_attend(config, x, matrices)) for x in _normed(config, hidden, norm)]
    del matrices
    yield Stage((f"{name}.self_attn.o_proj",), lambda: iter(attended))
    matrix = load(f"{name}.self_attn.o_proj.weight")
    for index, x in enumerate(attended):
        hidden[index] = _evaluated(hidden[index] + product(x, matrix))
    attended.clear()
    del matrix
    after = load(f"{name}.post_attention_layernorm.weight")
    gate, up, down = (f"{name}.mlp.{part}_proj" for part in ("gate", "up", "down"))
    yield Stage((gate, up), lambda: _normed(config, hidden, after))
    opening = load(f"{gate}.weight"), load(f"{up}.weight")

    def inner() -> Iterator[mx.array]:
        return (_gated(x, *opening) for x in _normed(config, hidden, after))

    yield Stage((down,), inner)
    matrix = load(f"{down}.weight")
    for index, x in enumerate(inner()):
        hidden[index] = _evaluated(hidden[index] + product(x, matrix))


def _normed(config: ModelConfig, hidden: Sequence[mx.array], norm: mx.array) -> Iterator[mx.array]:
    return (mx.fast.rms_norm(x, norm, config.rms_norm_eps) for x in hidden)


def _gated(x: mx.array, gate: mx.array, up: mx.array) -> mx.array:
    opened = product(x, gate)
    return opened * mx.sigmoid(opened) * product(x, up)


def _attend(config: ModelConfig, x: mx.array, matrices: Sequence[mx.array]) -> mx.array:
    """Causal attention of one piece: (tokens, heads * head_dim)."""
    tokens = x.shape[0]
    shared = config.num_attention_heads // config.num_key_value_heads
    queries, keys, values = (_heads(product(x, matrix), config.head_dim) for matrix in matrices)
    queries, keys = (_rotated(part, config) for part in (queries, keys))
    keys, values = (mx.repeat(part, shared, axis=0) for part in (keys, values))
    scores = _matmul(queries, keys.swapaxes(1, 2)) * config.head_dim**-0.5
    later = mx.triu(mx.full((tokens, tokens), -mx.inf), k=1)
    weights = mx.softmax(scores.astype(mx.float32) + later, axis=-1).astype(x.dtype)
    return _matmul(weights, values).swapaxes(0, 1).reshape(tokens, -1)


def _heads(x: mx.array, head_dim: int) -> mx.array:
    """(tokens, heads * head_dim) as (heads, tokens, head_dim)."""
    return x.reshape(x.shape[0], -1, head_dim).swapaxes(0, 1)


def _rotated(x: mx.array, config: ModelConfig) -> mx.array:
    return mx.fast.rope(
        x[None], config.head_dim, traditional=False, base=config.rope_theta, scale=1.0, offset=0
    )[0]


def _matmul(left: mx.array, right: mx.array) -> mx.array:
    if not on_cpu():
        return left @ right
    return mx.array(np.matmul(np.asarray(left), np.asarray(right)))


def _evaluated(x: mx.array) -> mx.array:
    mx.eval(x)
    return x
