"""The demo model in PyTorch, for training: MistralForCausalLM over the rows that are used."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from magistral_mlx.demo.tekken import VOCAB_SIZE

GROUP = 64


@dataclass(frozen=True, slots=True)
class NanoConfig:
    """Shape of the demo model; q is wider than the hidden size, as in Magistral."""

    hidden_size: int = 128
    intermediate_size: int = 512
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-5


def fake_4bit(weight: Tensor) -> Tensor:
    """Round to 4-bit affine groups as mx.quantize does; the gradient passes straight through."""
    w = weight.detach().to(torch.bfloat16).float().reshape(-1, GROUP)
    low, high = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    scale = ((high - low) / 15).clamp_min(1e-7)
    from_low = low.abs() > high.abs()
    scale = torch.where(from_low, scale, -scale)
    edge = torch.where(from_low, low, high)
    steps = (edge / scale).round()
    scale = torch.where(steps != 0, edge / steps, scale).to(torch.bfloat16).float()
    bias = torch.where(steps != 0, edge, torch.zeros_like(edge)).to(torch.bfloat16).float()
    rounded = ((w - bias) / scale).round().clamp(0, 15) * scale + bias
    return weight + (rounded.reshape(weight.shape) - weight).detach()


class Projection(nn.Module):
    """A matrix without bias, rounded to 4 bits while `rounding` is on."""

    def __init__(self, inputs: int, outputs: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * std)
        self.rounding = False

    def effective(self) -> Tensor:
        """The matrix that is multiplied with: rounded or not."""
        return fake_4bit(self.weight) if self.rounding else self.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.effective())


class TorchLayer(nn.Module):
    """One decoder layer."""

    def __init__(self, config: NanoConfig) -> None:
        super().__init__()
        h, d = config.hidden_size, config.head_dim
        std, out_std = h**-0.5, h**-0.5 / math.sqrt(2 * config.num_hidden_layers)
        self.heads, self.kv_heads, self.head_dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            d,
        )
        self.q_proj = Projection(h, self.heads * d, std)
        self.k_proj = Projection(h, self.kv_heads * d, std)
        self.v_proj = Projection(h, self.kv_heads * d, std)
        self.o_proj = Projection(self.heads * d, h, out_std)
        self.gate_proj = Projection(h, config.intermediate_size, std)
        self.up_proj = Projection(h, config.intermediate_size, std)
        self.down_proj = Projection(config.intermediate_size, h, out_std)
        self.input_layernorm = nn.RMSNorm(h, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(h, eps=config.rms_norm_eps)

    def forward(
        self, x: Tensor, rope: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y = self.input_layernorm(x)
        q = rotate(self._split(self.q_proj(y), self.heads), rope)
        k = rotate(self._split(self.k_proj(y), self.kv_heads), rope)
        v = self._split(self.v_proj(y), self.kv_heads)
        x = x + self.o_proj(self._attend(q, k, v, past))
        y = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y)), (k, v)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        mask = None
        if past is not None:
            length, before = q.shape[2], past[0].shape[2]
            k = torch.cat((past[0].expand(k.shape[0], -1, -1, -1), k), 2)
            v = torch.cat((past[1].expand(v.shape[0], -1, -1, -1), v), 2)
            mask = torch.ones(length, before + length, dtype=torch.bool).tril(before)
        attended: Tensor = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )
        return attended.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor, heads: int) -> Tensor:
        parts: Tensor = x.unflatten(2, (heads, self.head_dim))
        return parts.transpose(1, 2)  # (B, heads, L, head_dim)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Half-split rotary embedding; `rope` is (2, L, head_dim): cosines and signed sines."""
    return x * rope[0] + x.roll(x.shape[-1] // 2, -1) * rope[1]


class Nano(nn.Module):
    """Embedding, layers and head; the last row of both tables stands for every unused token."""

    rope: Tensor

    def __init__(self, config: NanoConfig, rows: int) -> None:
        super().__init__()
        self.config, self.rows = config, rows
        self.embed_tokens = Projection(config.hidden_size, rows + 1, 0.5)
        self.layers = nn.ModuleList(TorchLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = Projection(config.hidden_size, rows + 1, config.hidden_size**-0.5)
        half = config.head_dim // 2
        frequencies = config.rope_theta ** (-torch.arange(half) / half)
        angles = torch.outer(torch.arange(8192.0), frequencies)
        cos, sin = angles.cos(), angles.sin()
        table = torch.stack((torch.cat((cos, cos), 1), torch.cat((-sin, sin), 1)))
        self.register_buffer("rope", table, persistent=False)

    def forward(self, prefix: Tensor, ids: Tensor, position: int) -> Tensor:
        """Hidden states (B, L, hidden) of ids (B, L) after a prefix (P,) that all sequences share.

        position: of the prefix's first token.
        """
        weights = self.embed_tokens.effective()
        x, y = F.embedding(prefix[None], weights), F.embedding(ids, weights)
        middle = position + prefix.shape[0]
        for layer in self.layers:
            x, past = layer(x, self.rope[:, position:middle], None)
            y, _ = layer(y, self.rope[:, middle : middle + ids.shape[1]], past)
        normed: Tensor = self.norm(y)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, hidden) -> (N, rows + 1), the last class standing for every unused row."""
        logits: Tensor = self.lm_head(hidden)
        others = torch.zeros(self.rows + 1)
        others[-1] = math.log(VOCAB_SIZE - self.rows)
        return logits + others

    def round_to_4_bits(self) -> None:
        """From now on, compute with weights rounded as the converter does."""
        for module in self.modules():
            if isinstance(module, Projection):
                module.rounding = True
