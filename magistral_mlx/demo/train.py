"""Train the nano model and store it compactly. Development only: needs PyTorch.

    python -m magistral_mlx.demo.train --minutes 60 --out magistral_mlx/demo/nano.safetensors

The vocabulary has 131,072 rows of which a thousand or so are ever used. Training holds the used
rows and one class that stands for all others, with log(number of others) added to its logit:
after expansion, where all unused rows are copies of that class, the softmax is the trained one.

The system prompt is the same for a whole batch: its keys and values are computed once a step.
The last third of the steps rounds weights to 4 bits as MLX does (straight-through gradient).
"""

import argparse
import itertools
import json
import math
import random
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from magistral_mlx.demo.documents import UNKNOWN, Document, DocumentMaker
from magistral_mlx.demo.tekken import VOCAB_SIZE, write_tekken
from magistral_mlx.tokenizer import Tokenizer

GROUP = 64
IGNORED = -100


@dataclass(frozen=True, slots=True)
class NanoConfig:
    """Shape of the nano model; q is wider than the hidden size, as in Magistral."""

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
        return fake_4bit(self.weight) if self.rounding else self.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.effective())


class Block(nn.Module):
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
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )
        return out.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(2, (heads, self.head_dim)).transpose(1, 2)  # (B, heads, L, head_dim)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Half-split rotary embedding; `rope` is (2, L, head_dim): cosines and signed sines."""
    return x * rope[0] + x.roll(x.shape[-1] // 2, -1) * rope[1]


class Nano(nn.Module):
    def __init__(self, config: NanoConfig, rows: int) -> None:
        super().__init__()
        self.config, self.rows = config, rows
        self.embed_tokens = Projection(config.hidden_size, rows + 1, 0.5)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = Projection(config.hidden_size, rows + 1, config.hidden_size**-0.5)
        half = config.head_dim // 2
        frequencies = config.rope_theta ** (-torch.arange(half) / half)
        angles = torch.outer(torch.arange(8192.0), frequencies)
        cos, sin = angles.cos(), angles.sin()
        table = torch.stack((torch.cat((cos, cos), 1), torch.cat((-sin, sin), 1)))
        self.register_buffer("rope", table, persistent=False)

    def forward(self, batch: "Batch") -> Tensor:
        """Hidden states of batch.ids, (B, L, hidden), after the shared prefix."""
        weights = self.embed_tokens.effective()
        x, y = F.embedding(batch.prefix[None], weights), F.embedding(batch.ids, weights)
        start, middle = batch.position, batch.position + batch.prefix.shape[0]
        for layer in self.layers:
            x, past = layer(x, self.rope[:, start:middle], None)
            y, _ = layer(y, self.rope[:, middle : middle + batch.ids.shape[1]], past)
        return self.norm(y)

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, hidden) -> (N, rows + 1), the last class standing for every unused row."""
        out = self.lm_head(hidden)
        others = torch.zeros(self.rows + 1)
        others[-1] = math.log(VOCAB_SIZE - self.rows)
        return out + others

    def round_to_4_bits(self) -> None:
        for module in self.modules():
            if isinstance(module, Projection):
                module.rounding = True


@dataclass(frozen=True, slots=True)
class Batch:
    position: int  # of the first token: deep positions are learnt without deep sequences
    prefix: Tensor  # (P,)
    ids: Tensor  # (B, L)
    targets: Tensor  # (B, L), IGNORED where the loss does not count


class Batches:
    """Batches of about `tokens` tokens, documents of like length together."""

    def __init__(self, maker: DocumentMaker, row_of: dict[int, int], tokens: int) -> None:
        self._maker, self._row_of, self._tokens = maker, row_of, tokens
        self._documents = maker.documents()
        self._random = random.Random(1)
        self.prompt_share = 0.1

    def __iter__(self) -> "itertools.chain[Batch]":
        return itertools.chain.from_iterable(self._pool() for _ in itertools.count())

    def _pool(self) -> list[Batch]:
        documents = sorted(itertools.islice(self._documents, 1024), key=lambda d: len(d.ids))
        batches, group = [], list[Document]()
        for document in documents:
            if group and (len(group) + 1) * len(document.ids) > self._tokens:
                batches.append(self._batch(group))
                group = []
            group.append(document)
        batches.append(self._batch(group))
        self._random.shuffle(batches)
        return batches

    def _batch(self, group: list[Document]) -> Batch:
        length = max(len(d.ids) for d in group)
        ids = torch.zeros(len(group), length, dtype=torch.long)
        targets = torch.full((len(group), length), IGNORED)
        for i, d in enumerate(group):
            row = torch.tensor(self._rows(d.ids))
            ids[i, : len(row)] = row
            learn = torch.tensor(d.learn[1:])
            targets[i, : len(row) - 1] = torch.where(learn, row[1:], IGNORED)
        prefix = torch.tensor(self._rows(self._maker.system_prompt(share=self.prompt_share)))
        position = self._random.randrange(2048) if self._random.random() < 0.5 else 0
        return Batch(position, prefix, ids, targets)

    def _rows(self, ids: list[int]) -> list[int]:
        other = self._row_of[UNKNOWN]
        return [self._row_of.get(i, other) for i in ids]


def used_ids(tokenizer: Tokenizer, documents: int) -> list[int]:
    """Every token id that a sample of documents and system prompts holds, in order."""
    maker = DocumentMaker(tokenizer, random.Random(0))
    used = {i for d in itertools.islice(maker.documents(), documents) for i in d.ids}
    for _ in range(50):
        used.update(maker.system_prompt(share=1))
    for text in ("\n</think>\n", "<think>\n\n</think>\n", "<think>\n", "<think>\n</think>\n"):
        used.update(tokenizer.encode(text))
    used.discard(UNKNOWN)
    return sorted(used)


def train(model: Nano, batches: Batches, *, minutes: float, rate: float) -> None:
    """AdamW, by the clock.

    The rate rises over 200 steps and falls with the share of `minutes` that has passed, so that
    a slower machine takes fewer steps in the same time.
    """
    tables = [p for p in model.parameters() if p.ndim == 2]
    norms = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": tables, "weight_decay": 0.05}, {"params": norms, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.98),
    )
    start, tokens, rounding = time.monotonic(), 0, False
    for step, batch in enumerate(batches):
        done = (time.monotonic() - start) / (60 * minutes)
        if done >= 1:
            return
        batches.prompt_share = 0.1 if done < 0.4 else 0.4 if done < 0.8 else 0.7
        if done > 0.65 and not rounding:
            model.round_to_4_bits()
            rounding = True
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 200, 1.5 * (1 - done)) + 1e-6
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=done < 0.9):
            loss, right, exact = losses(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        tokens += batch.ids.numel()
        if step % 20 == 0:
            passed = time.monotonic() - start
            print(
                f"{passed:7.0f} s  step {step:6d}  loss {loss.item():.4f}  tokens right "
                f"{right:.4f}  documents exact {exact:.3f}  {tokens / passed:.0f} tokens/s",
                flush=True,
            )


def losses(model: Nano, batch: Batch) -> tuple[Tensor, float, float]:
    """Cross entropy, share of right tokens, share of documents with every token right.

    Reasoning is a function of the question, so a document that is right under teacher forcing
    is also what greedy decoding would write.
    """
    hidden = model(batch)
    counted = batch.targets != IGNORED
    logits = model.logits(hidden[counted])
    targets = batch.targets[counted]
    right = torch.ones_like(counted)
    right[counted] = logits.argmax(1) == targets
    share = (right & counted).sum() / counted.sum()
    return (
        F.cross_entropy(logits.float(), targets),
        share.item(),
        right.all(1).float().mean().item(),
    )


def save(model: Nano, ids: list[int], path: Path) -> None:
    """Store in bfloat16: blocks by their Hugging Face names, used rows, their ids."""
    tensors = {"used_ids": torch.tensor(ids, dtype=torch.int32)}
    for name, value in model.state_dict().items():
        where = name if name == "lm_head.weight" else f"model.{name}"
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            where = where.replace(f".{part}.", f".self_attn.{part}.")
        for part in ("gate_proj", "up_proj", "down_proj"):
            where = where.replace(f".{part}.", f".mlp.{part}.")
        tensors[where] = value.to(torch.bfloat16).contiguous()
    save_file(tensors, path, metadata={"config": json.dumps(asdict(model.config))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--tokens", type=int, default=2500, help="tokens a step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tekken.json"
        write_tekken(path)
        tokenizer = Tokenizer.open(path)
    ids = used_ids(tokenizer, 30_000)
    print(f"{len(ids)} rows used")
    row_of = {token_id: row for row, token_id in enumerate(ids)} | {UNKNOWN: len(ids)}
    model = Nano(NanoConfig(), len(ids))
    maker = DocumentMaker(tokenizer, random.Random(7))
    batches = Batches(maker, row_of, arguments.tokens)
    try:
        train(model, batches, minutes=arguments.minutes, rate=arguments.rate)
    except KeyboardInterrupt:
        print("interrupted: storing the model as it is")
    save(model, ids, arguments.out)


if __name__ == "__main__":
    main()
