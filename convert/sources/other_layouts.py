"""Mistral's and llama.cpp's layouts: their tensor names and row order, and Hugging Face's."""

from collections.abc import Mapping
from dataclasses import dataclass

from magistral_mlx.checkpoint.config import ARCHITECTURE, ModelConfig
from magistral_mlx.convert.sources.source import Rows, SourceTensor

ROTATED = ("self_attn.q_proj.weight", "self_attn.k_proj.weight")


@dataclass(frozen=True, slots=True)
class TensorNames:
    """A layout's names for Hugging Face's: `top` outside the layers, `layer` inside."""

    prefix: str
    top: Mapping[str, str]
    layer: Mapping[str, str]

    def of(self, name: str) -> str:
        """For example layers.3.feed_forward.w3.weight for model.layers.3.mlp.up_proj.weight."""
        if name in self.top:
            return self.top[name]
        _, _, index, rest = name.split(".", 3)
        return f"{self.prefix}.{index}.{self.layer[rest.removesuffix('.weight')]}.weight"


MISTRAL_NAMES = TensorNames(
    prefix="layers",
    top={
        "model.embed_tokens.weight": "tok_embeddings.weight",
        "model.norm.weight": "norm.weight",
        "lm_head.weight": "output.weight",
    },
    layer={
        "input_layernorm": "attention_norm",
        "self_attn.q_proj": "attention.wq",
        "self_attn.k_proj": "attention.wk",
        "self_attn.v_proj": "attention.wv",
        "self_attn.o_proj": "attention.wo",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.down_proj": "feed_forward.w2",
        "mlp.up_proj": "feed_forward.w3",
    },
)
GGUF_NAMES = TensorNames(
    prefix="blk",
    top={
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    },
    layer={
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    },
)


@dataclass(frozen=True, slots=True)
class HfTensor:
    """A tensor of another layout under Hugging Face's name and in its row order.

    Mistral and llama.cpp rotate rows 2i and 2i + 1 of a query or key head together, Hugging Face
    rows i and i + head_dim / 2 (transformers, convert_mistral_weights_to_hf.py,
    `permute_for_rope`).
    """

    name: str
    tensor: SourceTensor
    head_dim: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    def read_rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop). Rotated tensors are read by whole heads."""
        if not self.name.endswith(ROTATED):
            return self.tensor.read_rows(start, stop)
        first = start // self.head_dim * self.head_dim
        last = -(-stop // self.head_dim) * self.head_dim
        rows = self.tensor.read_rows(first, last)
        pairs = rows.reshape(-1, self.head_dim // 2, 2, rows.shape[-1])
        halves = pairs.swapaxes(1, 2).reshape(rows.shape)
        return halves[start - first : stop - first]


def hf_config_of(config: ModelConfig) -> dict[str, object]:
    """The config.json of the model in the Hugging Face layout."""
    return {
        "architectures": [ARCHITECTURE],
        "attention_dropout": 0.0,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "model_type": "mistral",
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": config.tie_word_embeddings,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }
