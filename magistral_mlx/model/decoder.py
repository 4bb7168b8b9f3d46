"""The decoder: one forward pass over a flat axis of tokens that belong to several sequences.

Projections, norms and the MLP run once over all tokens; only attention runs sequence by sequence.
The arithmetic is that of mlx-lm's models/llama.py, so greedy tokens agree.
"""

from collections.abc import Callable, Sequence

import mlx.core as mx
import mlx.nn as nn

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint, load_weights
from magistral_mlx.device import compute_dtype, on_cpu
from magistral_mlx.kv.cache import KVCache, kv_precision
from magistral_mlx.kv.quantised import empty_cache
from magistral_mlx.model.token_axis import Segment, TokenAxis, advance, token_axis


def load_decoder(checkpoint: Checkpoint, *, dtype: mx.Dtype | None = None) -> "Decoder":
    """Build the decoder of a checkpoint and read its weights.

    Args:
        dtype: type to compute in; by default `compute_dtype` of the checkpoint's.

    Raises:
        CheckpointError: a weight file cannot be read or does not fit the config.
    """
    dtype = dtype or compute_dtype(checkpoint.config.dtype)
    decoder = Decoder(checkpoint.config)
    decoder.load(load_weights(checkpoint), dtype)
    mx.eval(decoder.parameters())
    return decoder


class Decoder(nn.Module):
    """MistralForCausalLM; parameters have mlx-lm's names, but q, k and v are one matrix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = _Layers(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def __call__(self, tokens: mx.array, segments: Sequence[Segment]) -> mx.array:
        """Run new tokens of one or more sequences; their caches hold them afterwards.

        Args:
            tokens: (T,) ids, segment after segment.
            segments: lengths add up to T; every cache appears once.

        Returns:
            (S, vocab) logits of the positions that need them, in order; S may be 0.
        """
        hidden = self.hidden(tokens, segments)
        if self.config.tie_word_embeddings:
            return self.model.embed_tokens.as_linear(hidden)
        return self.lm_head(hidden)

    def hidden(self, tokens: mx.array, segments: Sequence[Segment]) -> mx.array:
        """As `__call__`, but (S, hidden): the input of the head."""
        return self.finish(self.model.embed_tokens(tokens), segments)

    def finish(self, hidden: mx.array, segments: Sequence[Segment]) -> mx.array:
        """As `hidden`, from (T, hidden) that the layers before these return."""
        finished: mx.array = self.model.finish(hidden, segments)
        advance(segments)
        return finished

    def pass_through(self, hidden: mx.array, segments: Sequence[Segment]) -> mx.array:
        """(T, hidden) after these layers, for the layers of the next rank."""
        axis, _ = token_axis(segments)
        for layer in self.model.layers:
            hidden = layer(hidden, axis)
        advance(segments)
        return hidden

    def make_cache(self, *, bits: int | None = None, start: int = 0) -> KVCache:
        """An empty cache for one sequence; a step may mix sequences of different precisions.

        Args:
            bits: 8 or 4; 16, 32 or None: the compute type.
            start: tokens at the beginning that are never quantised.

        Raises:
            RequestError: a value is outside its range, or the heads do not divide into groups.
        """
        return empty_cache(self.config, kv_precision(bits, start=start))

    def make_filled_cache(self, tokens: int) -> KVCache:
        """A cache of this many tokens that never ran: to time the tokens after them."""
        cache = self.make_cache()
        if tokens:
            config = self.config
            shape = (1, config.num_key_value_heads, tokens, config.head_dim)
            rows = mx.zeros(shape, self.model.norm.weight.dtype)
            for layer in range(cache.layers):
                cache.update(layer, rows, rows)
            cache.advance(tokens)
            mx.eval(cache.arrays)
        return cache

    def load(self, weights: dict[str, mx.array], dtype: mx.Dtype) -> None:
        """Take weights by mlx-lm's names, quantised as the config says; nothing is read yet.

        The dict is emptied, so that no tensor is in memory in two forms.
        """
        _fuse_qkv(weights, self.config)
        nn.quantize(self, class_predicate=_stored_as(self.config))
        typed = [
            (name, array.astype(dtype) if mx.issubdtype(array.dtype, mx.floating) else array)
            for name, array in weights.items()
        ]
        weights.clear()
        self.load_weights(typed)


_Gating = Callable[[mx.array, mx.array], mx.array]


class _Layers(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        # On the CPU, MLX compiles with a C++ compiler, which takes seconds and may be missing.
        swiglu = _swiglu if on_cpu() else mx.compile(_swiglu, shapeless=True)
        self.layers = [_Layer(config, index, swiglu) for index in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def finish(self, hidden: mx.array, segments: Sequence[Segment]) -> mx.array:
        axis, last = token_axis(segments)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, axis)
        return self.norm(self.layers[-1](hidden, last))


class _Layer(nn.Module):
    def __init__(self, config: ModelConfig, index: int, swiglu: _Gating) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = _Attention(config, index)
        self.mlp = _MLP(size, config.intermediate_size, swiglu)
        self.input_layernorm = nn.RMSNorm(size, eps=eps)
        self.post_attention_layernorm = nn.RMSNorm(size, eps=eps)

    def __call__(self, hidden: mx.array, axis: TokenAxis) -> mx.array:
        attended = self.self_attn(self.input_layernorm(hidden), axis)
        if axis.rows is not None:
            hidden = hidden[axis.rows]
        hidden = hidden + attended
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class _Attention(nn.Module):
    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        self.scale = config.head_dim**-0.5
        self.rope_theta = config.rope_theta
        rows = (self.heads + 2 * self.kv_heads) * self.head_dim
        if _shares_qkv(config, index):
            self.qkv_proj: nn.Module = nn.Linear(config.hidden_size, rows, bias=False)
        else:
            self.qkv_proj = _SeparateQKV(config)
        self.o_proj = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=False)

    def __call__(self, x: mx.array, axis: TokenAxis) -> mx.array:
        rotary = self.heads + self.kv_heads
        qkv = self.qkv_proj(x).reshape(-1, rotary + self.kv_heads, 1, self.head_dim)
        # Every token is a batch row, so that rope takes a position for each.
        rotated = mx.fast.rope(
            qkv[:, :rotary],
            self.head_dim,
            traditional=False,
            base=self.rope_theta,
            scale=1.0,
            offset=axis.positions,
        )
        queries, keys = mx.split(rotated.transpose(2, 1, 0, 3), [self.heads], axis=1)
        values = qkv[:, rotary:].transpose(2, 1, 0, 3)  # (1, kv_heads, T, head_dim)
        # One split for all sequences costs the host less than a slice for each.
        cuts = [segment.start for segment in axis.segments[1:]]
        split = (mx.split(rows, cuts, axis=2) for rows in (queries, keys, values))
        parts = [
            segment.cache.attend(self.index, _last(q, segment.queries), k, v, scale=self.scale)
            for segment, q, k, v in zip(axis.segments, *split, strict=True)
        ]
        attended = parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2)
        flat = attended.transpose(0, 2, 1, 3).reshape(-1, self.heads * self.head_dim)
        return self.o_proj(flat)


class _SeparateQKV(nn.Module):
    """Queries, keys and values from three matrices, stored in different formats."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return mx.concatenate([self.q_proj(x), self.k_proj(x), self.v_proj(x)], axis=-1)


def _last(rows: mx.array, count: int) -> mx.array:
    """The last tokens of (1, heads, T, head_dim)."""
    return rows if count == rows.shape[2] else rows[:, :, rows.shape[2] - count :]


class _MLP(nn.Module):
    def __init__(self, size: int, inner: int, swiglu: _Gating) -> None:
        super().__init__()
        self.swiglu = swiglu
        self.gate_proj = nn.Linear(size, inner, bias=False)
        self.up_proj = nn.Linear(size, inner, bias=False)
        self.down_proj = nn.Linear(inner, size, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(self.swiglu(self.gate_proj(x), self.up_proj(x)))


def _swiglu(gate: mx.array, up: mx.array) -> mx.array:
    return gate * mx.sigmoid(gate) * up


def _shares_qkv(config: ModelConfig, layer: int) -> bool:
    """Whether q, k and v of a layer have the same format, so that their rows can be one matrix."""
    prefix = f"model.layers.{layer}.self_attn"
    return len({config.quantization_of(f"{prefix}.{name}_proj") for name in "qkv"}) == 1


def _fuse_qkv(weights: dict[str, mx.array], config: ModelConfig) -> None:
    """Join q, k and v in one matrix: one product and one rope call instead of three and two."""
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}.self_attn"
        shared = _shares_qkv(config, layer)
        for part in ("weight", "scales", "biases"):
            arrays = {
                name: weights.pop(f"{prefix}.{name}_proj.{part}")
                for name in "qkv"
                if f"{prefix}.{name}_proj.{part}" in weights
            }
            if shared and arrays:
                weights[f"{prefix}.qkv_proj.{part}"] = mx.concatenate([*arrays.values()])
            elif arrays:
                for name, array in arrays.items():
                    weights[f"{prefix}.qkv_proj.{name}_proj.{part}"] = array


def _stored_as(config: ModelConfig) -> Callable[[str, nn.Module], bool | dict[str, int | str]]:
    """The predicate for `nn.quantize`: how each module of the decoder is stored."""
    own = dict(config.module_quantization)

    def storage(path: str, module: nn.Module) -> bool | dict[str, int | str]:
        name = path.replace(".qkv_proj.", ".").replace(".qkv_proj", ".q_proj")
        found = own.get(name, config.quantization)
        if found is None or not hasattr(module, "to_quantized"):
            return False
        return {"group_size": found.group_size, "bits": found.bits, "mode": found.mode}

    return storage
