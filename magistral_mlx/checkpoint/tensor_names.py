"""Mistral's and llama.cpp's tensor names, beside Hugging Face's."""

from collections.abc import Mapping
from dataclasses import dataclass


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
