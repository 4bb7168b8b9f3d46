"""Train the demo model and store it compactly (README.md). Development only: needs PyTorch.

    OMP_NUM_THREADS=1 python -m magistral_mlx.demo.train magistral_mlx/demo/nano.safetensors

Everything is seeded. Ctrl-C stores the model as it is.
"""

import argparse
import itertools
import json
import random
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from magistral_mlx.demo.documents import UNKNOWN, Document, DocumentMaker
from magistral_mlx.demo.tekken import write_tekken
from magistral_mlx.demo.torch_nano import Nano, NanoConfig
from magistral_mlx.text.tokenizer import Tokenizer

IGNORED = -100


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    position: int  # of the first token: large positions are learnt from short sequences
    prefix: Tensor  # (P,)
    ids: Tensor  # (B, L)
    targets: Tensor  # (B, L), IGNORED where the loss does not count


class Batches:
    """Batches of about `tokens` tokens, documents of similar length together."""

    def __init__(self, maker: DocumentMaker, row_of: dict[int, int], tokens: int) -> None:
        self._maker, self._row_of, self._tokens = maker, row_of, tokens
        self._documents = maker.documents()
        self._random = random.Random(1)
        self.prompt_share = 0.1

    def __iter__(self) -> "itertools.chain[TrainingBatch]":
        return itertools.chain.from_iterable(self._pool() for _ in itertools.count())

    def _pool(self) -> list[TrainingBatch]:
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

    def _batch(self, group: list[Document]) -> TrainingBatch:
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
        return TrainingBatch(position, prefix, ids, targets)

    def _rows(self, ids: list[int]) -> list[int]:
        other = self._row_of[UNKNOWN]
        return [self._row_of.get(i, other) for i in ids]


def used_ids(tokenizer: Tokenizer, documents: int) -> list[int]:
    """Every token id in a sample of documents and system prompts, in order."""
    maker = DocumentMaker(tokenizer, random.Random(0))
    used = {i for d in itertools.islice(maker.documents(), documents) for i in d.ids}
    for _ in range(50):
        used.update(maker.system_prompt(share=1))
    for text in ("\n</think>\n", "<think>\n\n</think>\n", "<think>\n", "<think>\n</think>\n"):
        used.update(tokenizer.encode(text))
    used.discard(UNKNOWN)
    return sorted(used)


def train(model: Nano, batches: Batches, *, steps: int, rate: float) -> None:
    """AdamW; the rate rises over 200 steps, stays for a third of the way and falls to nothing."""
    tables = [p for p in model.parameters() if p.ndim == 2]
    norms = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": tables, "weight_decay": 0.05}, {"params": norms, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.98),
    )
    start = time.monotonic()
    for step, batch in enumerate(itertools.islice(batches, steps)):
        done = step / steps
        batches.prompt_share = 0.1 if done < 0.4 else 0.4 if done < 0.8 else 0.7
        if step == round(0.65 * steps):
            model.round_to_4_bits()
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 200, 1.5 * (1 - done)) + 1e-6
        with torch.autocast("cpu", torch.bfloat16, enabled=done < 0.9):
            loss, right, exact = losses(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0:
            print(
                f"{time.monotonic() - start:7.0f} s  step {step:5d}  loss {loss.item():.4f}  "
                f"tokens right {right:.4f}  documents exact {exact:.3f}",
                flush=True,
            )


def losses(model: Nano, batch: TrainingBatch) -> tuple[Tensor, float, float]:
    """Cross entropy, share of right tokens, share of documents with every token right.

    Reasoning is a function of the question, so a document that is right under teacher forcing
    is also what greedy decoding would write.
    """
    hidden = model(batch.prefix, batch.ids, batch.position)
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
    """Store in bfloat16: layers by their Hugging Face names, used rows, their ids."""
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
    """Train and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--tokens", type=int, default=2500, help="of a step")
    parser.add_argument("--rate", type=float, default=2e-3)
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
        train(model, batches, steps=arguments.steps, rate=arguments.rate)
    except KeyboardInterrupt:
        print("interrupted: storing the model as it is")
    save(model, ids, arguments.out)


if __name__ == "__main__":
    main()
