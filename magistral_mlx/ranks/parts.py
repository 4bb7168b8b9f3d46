"""One rank's part of a model, loaded: some heads of every layer, or some layers.

Heads: embedding and norms are whole on every rank. At 4 bits the embedding takes 0.38 of Magistral
Small's 13.3 GB, and a step reads a few of its rows. Rank 0 alone has the head, which is as large:
only rank 0 draws. docs/deployment.md says what dividing the head would save.

Layers: hidden states go from each rank to the one before it, inside the graph: one message a step
and stage. Rank 0's last layer alone can leave out the tokens that need no logits.
"""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
from mlx.nn.layers.distributed import shard_inplace, shard_linear
from mlx.utils import tree_flatten

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint, load_weights
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.ranks.division import Stage, shard_config
from magistral_mlx.ranks.leading_decoder import LeadingDecoder


def load_shard(
    decoder: Decoder, checkpoint: Checkpoint, group: mx.distributed.Group, *, dtype: mx.Dtype
) -> None:
    """Fill a decoder that was made for the whole config with one rank's part of the heads.

    Tensors are read and cut one after the other: memory never holds more than one whole tensor.
    """
    config = shard_config(checkpoint.config, group.size())
    decoder.load(load_weights(checkpoint), dtype)
    for layer in decoder.model.layers:
        _divide_attention(layer.self_attn, config, group)
        _divide_mlp(layer.mlp, group)
    decoder.config = config
    if group.rank() > 0 and not config.tie_word_embeddings:
        del decoder.lm_head
    _evaluate(decoder)


def load_stage(decoder: Decoder, checkpoint: Checkpoint, stage: Stage, *, dtype: mx.Dtype) -> None:
    """Fill a decoder that was made for the whole config with one rank's layers.

    No other tensor is read.
    """
    config = checkpoint.config
    decoder.load(load_weights(checkpoint), dtype)
    decoder.model.layers = decoder.model.layers[stage.start : stage.stop]
    for index, layer in enumerate(decoder.model.layers):
        layer.self_attn.index = index
    if not (stage.embeds or (stage.draws and config.tie_word_embeddings)):
        del decoder.model.embed_tokens
    if not (stage.draws or config.tie_word_embeddings):
        del decoder.lm_head
    decoder.config = stage.part_of(config)
    _evaluate(decoder)


class StageDecoder(Decoder):
    """The layers of a rank other than 0: filled by `load_stage`."""

    def __init__(self, config: ModelConfig, stage: Stage, group: mx.distributed.Group) -> None:
        """config: of the whole model."""
        super().__init__(config)
        self._stage = stage
        self._group = group

    def hidden(self, tokens: mx.array, segments: Sequence[Segment]) -> mx.array:
        """(T, hidden) for the next stage, which gets them only when they are evaluated."""
        if self._stage.embeds:
            hidden = self.model.embed_tokens(tokens)
        else:
            hidden = _receive(self, tokens, self._group)
        hidden = self.pass_through(hidden, segments)
        return mx.distributed.send(hidden, self._stage.rank - 1, group=self._group)


class LeadingStage(LeadingDecoder):
    """Rank 0's layers: filled by `load_stage`."""

    def hidden(self, tokens: mx.array, segments: Sequence[Segment]) -> mx.array:
        """As Decoder.hidden, from the hidden states of the stage before."""
        return self.finish(_receive(self, tokens, self._group), segments)


def _receive(decoder: Decoder, tokens: mx.array, group: mx.distributed.Group) -> mx.array:
    """The hidden states (T, hidden) that the stage before returns for a step's tokens.

    MLX sees no dependency of a received message. All ranks must exchange messages in the same
    order, so the token ids are evaluated before it, and it before later messages, whether or not
    its logits are needed.
    """
    mx.async_eval(tokens)
    dtype = decoder.model.norm.weight.dtype
    shape = (tokens.shape[0], decoder.config.hidden_size)
    hidden = mx.distributed.recv(shape, dtype, group.rank() + 1, group=group)
    mx.async_eval(hidden)
    return hidden


def _divide_attention(
    attention: nn.Module, config: ModelConfig, group: mx.distributed.Group
) -> None:
    if isinstance(attention.qkv_proj, nn.Linear | nn.QuantizedLinear):
        queries = attention.heads * attention.head_dim
        keys = attention.kv_heads * attention.head_dim
        cuts = [queries, queries + keys]  # q, k and v, each of which is divided
        shard_inplace(attention.qkv_proj, "all-to-sharded", segments=cuts, group=group)
    else:
        shard_inplace(attention.qkv_proj, "all-to-sharded", group=group)
    attention.o_proj = shard_linear(attention.o_proj, "sharded-to-all", group=group)
    attention.heads = config.num_attention_heads
    attention.kv_heads = config.num_key_value_heads


def _divide_mlp(mlp: nn.Module, group: mx.distributed.Group) -> None:
    shard_inplace(mlp.gate_proj, "all-to-sharded", group=group)
    shard_inplace(mlp.up_proj, "all-to-sharded", group=group)
    mlp.down_proj = shard_linear(mlp.down_proj, "sharded-to-all", group=group)


def _evaluate(decoder: Decoder) -> None:
    for named in tree_flatten(decoder.parameters()):
        mx.eval(named[1])
        mx.clear_cache()  # the whole tensors that this one was cut from or made of
