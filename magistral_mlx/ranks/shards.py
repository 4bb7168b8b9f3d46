"""The part of a model that one rank has: some heads with their KV, and a part of every MLP.

Embedding and norms are whole on every rank. At 4 bits the embedding takes 0.38 of Magistral Small's
13.3 GB, and a step reads a few of its rows. The head, as large, is rank 0's alone: only rank 0
draws. To divide it between two M4 Pro would save 0.7 of some 26 ms a step, and cost a gathering of
131,072 logits a row: 0.1 ms a row over Thunderbolt, 0.2 over 10 GbE, and a round trip.
"""

import mlx.core as mx
import mlx.nn as nn
from mlx.nn.layers.distributed import shard_inplace, shard_linear
from mlx.utils import tree_flatten

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint, load_weights
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.ranks.shard_config import shard_config


def load_shard(
    decoder: Decoder, checkpoint: Checkpoint, group: mx.distributed.Group, *, dtype: mx.Dtype
) -> None:
    """Fill a decoder that was made for the whole config with one rank's part of the weights.

    Tensors are read and cut one after the other, so there is never more than one whole in memory.
    """
    config = shard_config(checkpoint.config, group.size())
    decoder.load(load_weights(checkpoint), dtype)
    for layer in decoder.model.layers:
        _divide_attention(layer.self_attn, config, group)
        _divide_mlp(layer.mlp, group)
    decoder.config = config
    if group.rank() > 0 and not config.tie_word_embeddings:
        del decoder.lm_head
    for named in tree_flatten(decoder.parameters()):
        mx.eval(named[1])
        mx.clear_cache()  # the whole tensor that this is a part of


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
