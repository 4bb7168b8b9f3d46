"""A forward pass that yields the input of every matrix, with one layer in memory at a time.

The arithmetic is that of `model.decoder`, without KV cache: each piece of text is a sequence.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.device import on_cpu

Load = Callable[[str], mx.array]
"""Loads a tensor by name, in the compute type, when the walk needs it."""


@dataclass(frozen=True, slots=True)
class WalkStage:
    """Modules with a common input, and that input, piece by piece: (tokens, columns).

    Their matrices are loaded after the stage, so the receiver may first make them from its input.
    """

    modules: tuple[str, ...]
    inputs: Callable[[], Iterator[mx.array]]


def walk(config: ModelConfig, pieces: Sequence[mx.array], load: Load) -> Iterator[WalkStage]:
    """Yield all stages in the order of the forward pass.

    pieces: embedded tokens, (tokens, hidden) each. In memory are the hidden states of all pieces
    and the output of one layer's attention; anything else is computed piece by piece.
    """
    hidden = list(pieces)
    for layer in range(config.num_hidden_layers):
        yield from _layer(config, f"model.layers.{layer}", hidden, load)
    norm = load("model.norm.weight")
    yield WalkStage(("lm_head",), lambda: _normed(config, hidden, norm))


def product(inputs: mx.array, matrix: mx.array) -> mx.array:
    """Multiply rows (tokens, in) by a matrix (out, in)."""
    return _matmul(inputs, matrix.T)


def _layer(
    config: ModelConfig, name: str, hidden: list[mx.array], load: Load
) -> Iterator[WalkStage]:
    norm = load(f"{name}.input_layernorm.weight")
    queries, keys, values = (f"{name}.self_attn.{part}_proj" for part in "qkv")
    yield WalkStage((queries, keys, values), lambda: _normed(config, hidden, norm))
    matrices = [load(f"{module}.weight") for module in (queries, keys, values)]
    attended = [_evaluated(_attend(config, x, matrices)) for x in _normed(config, hidden, norm)]
    del matrices
    yield WalkStage((f"{name}.self_attn.o_proj",), lambda: iter(attended))
    matrix = load(f"{name}.self_attn.o_proj.weight")
    for index, x in enumerate(attended):
        hidden[index] = _evaluated(hidden[index] + product(x, matrix))
    attended.clear()
    del matrix
    after = load(f"{name}.post_attention_layernorm.weight")
    gate, up, down = (f"{name}.mlp.{part}_proj" for part in ("gate", "up", "down"))
    yield WalkStage((gate, up), lambda: _normed(config, hidden, after))
    opening = [load(f"{module}.weight") for module in (gate, up)]

    def inner() -> Iterator[mx.array]:
        return (_gated(x, *opening) for x in _normed(config, hidden, after))

    yield WalkStage((down,), inner)
    matrix = load(f"{down}.weight")
    for index, x in enumerate(inner()):
        hidden[index] = _evaluated(hidden[index] + product(x, matrix))


def _normed(config: ModelConfig, hidden: Sequence[mx.array], norm: mx.array) -> Iterator[mx.array]:
    return (mx.fast.rms_norm(x, norm, config.rms_norm_eps) for x in hidden)


def _gated(x: mx.array, gate: mx.array, up: mx.array) -> mx.array:
    gated = product(x, gate)
    return gated * mx.sigmoid(gated) * product(x, up)


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
    """(tokens, heads * head_dim) to (heads, tokens, head_dim)."""
    return x.reshape(x.shape[0], -1, head_dim).swapaxes(0, 1)


def _rotated(x: mx.array, config: ModelConfig) -> mx.array:
    return mx.fast.rope(
        x[None], config.head_dim, traditional=False, base=config.rope_theta, scale=1.0, offset=0
    )[0]


def _matmul(left: mx.array, right: mx.array) -> mx.array:
    if not on_cpu():
        return left @ right
    # NumPy is many times faster than MLX on the CPU.
    return mx.array(np.matmul(np.asarray(left), np.asarray(right)))


def _evaluated(x: mx.array) -> mx.array:
    mx.eval(x)
    return x
