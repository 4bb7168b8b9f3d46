"""What quantised weights cost: perplexity and KL divergence from the bf16 source, recipe by recipe.

    python benchmarks/quality.py [--source FOLDER --text FILE]

By default the nano model that comes with the package, on held-out questions with their reasoning
and answers. Another source is measured on a text file, in pieces of 512 tokens.
"""

import argparse
import json
import math
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import cast

import mlx.core as mx
from rich.console import Console
from rich.table import Table

from magistral_mlx import spec
from magistral_mlx.byte_counts import weight_bytes
from magistral_mlx.checkpoint import open_checkpoint
from magistral_mlx.convert import convert
from magistral_mlx.convert.stored_model import open_stored
from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.model import Decoder, Segment, load_decoder
from magistral_mlx.tokenizer import Tokenizer

PIECE = 512


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to convert."""

    recipe: str
    group_size: int
    rtn: bool
    target_bits: float | None = None

    @property
    def name(self) -> str:
        if self.recipe == "mixed":
            return f"mixed to {self.target_bits}, group {self.group_size}"
        return f"{self.recipe}, group {self.group_size}" + (", rounded" if self.rtn else ", fitted")


SETTINGS = (
    Setting("q4", 64, rtn=True),
    Setting("q4", 64, rtn=False),
    Setting("q4", 32, rtn=True),
    Setting("q4", 32, rtn=False),
    Setting("mixed", 64, rtn=False, target_bits=5.0),
    Setting("q3", 32, rtn=True),
    Setting("q3", 32, rtn=False),
    Setting("q3", 64, rtn=True),
    Setting("q3", 64, rtn=False),
    Setting("q8", 64, rtn=True),
    Setting("q8", 64, rtn=False),
)


@dataclass(frozen=True, slots=True)
class Piece:
    """Token ids; the ones from `start` on are predicted and counted."""

    ids: list[int]
    start: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one setting: KL in nats a token from the bf16 model, and share of equal top tokens."""

    name: str
    bits: float
    weight_error: float
    perplexity: float
    kl: float
    same_top: float
    seconds: float


def main() -> None:
    """Convert, measure, print a table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--source", default="demo")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--questions", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        plain = convert(options.source, Path(scratch) / "bf16", recipe="bf16")
        tokenizer = Tokenizer.open(plain / "tekken.json")
        if options.text is None:
            pieces = questions(tokenizer, options.questions)
        else:
            pieces = cut(tokenizer.encode(options.text.read_text(encoding="utf-8")))
        exact = load_decoder(open_checkpoint(plain), dtype=mx.float32)
        # Dense float32 products are slow on the CPU backend: once is enough.
        expected = [log_probabilities(exact, piece) for piece in pieces]
        mx.eval(expected)
        results = [Figures("bf16", 16.0, 0.0, *compare(expected, expected, pieces), 0.0)]
        for setting in SETTINGS:
            results.append(measure(setting, options.source, Path(scratch), expected, pieces))
            print(results[-1], flush=True)
    tokens = sum(len(piece.ids) - piece.start for piece in pieces)
    show(results, tokens)
    print(json.dumps(report(results, tokens)))


def questions(tokenizer: Tokenizer, count: int) -> list[Piece]:
    """Conversations of one turn; reasoning and answer are counted."""
    control = {name: tokenizer.control_id(name) or 0 for name in ("[INST]", "[/INST]")}
    pieces = []
    for question in held_out_questions(count):
        asked = [control["[INST]"], *tokenizer.encode(question.text), control["[/INST]"]]
        thought = f"{spec.THINK_OPEN}\n{question.reasoning}\n{spec.THINK_CLOSE}\n"
        reply = [*tokenizer.encode(thought + question.answer), tokenizer.eos_id]
        pieces.append(Piece([tokenizer.bos_id, *asked, *reply], 1 + len(asked)))
    return pieces


def cut(ids: list[int]) -> list[Piece]:
    """Pieces of a text, each predicted from its own beginning."""
    return [Piece(ids[i : i + PIECE], 1) for i in range(0, len(ids) - PIECE, PIECE)]


def measure(
    setting: Setting,
    source: str,
    scratch: Path,
    expected: Sequence[mx.array],
    pieces: Sequence[Piece],
) -> Figures:
    """Convert with one setting and compare with the exact model."""
    started = time.monotonic()
    folder = convert(
        source,
        scratch / "converted",
        recipe=setting.recipe,
        group_size=setting.group_size,
        target_bits=setting.target_bits,
        rtn=setting.rtn,
        force=True,
    )
    seconds = time.monotonic() - started
    stored = open_stored(folder)
    config = stored.checkpoint.config
    plain = replace(config, quantization=None, module_quantization=())
    weights = weight_bytes(plain, "bfloat16") // 2
    bits = 8 * weight_bytes(config, "bfloat16") / weights
    errors = [error.mean for error in stored.errors.values()]
    decoder = load_decoder(stored.checkpoint, dtype=mx.float32)
    found = [log_probabilities(decoder, piece) for piece in pieces]
    figures = compare(found, expected, pieces)
    return Figures(setting.name, bits, sum(errors) / len(errors), *figures, seconds)


def compare(
    models: Sequence[mx.array], exact: Sequence[mx.array], pieces: Sequence[Piece]
) -> tuple[float, float, float]:
    """Perplexity, KL from the exact model, and how often both have the same likeliest token."""
    loss = kl = same = 0.0
    count = 0
    for found, expected, piece in zip(models, exact, pieces, strict=True):
        targets = mx.array(piece.ids[piece.start :])[:, None]
        loss -= number(mx.take_along_axis(found, targets, axis=1).sum())
        kl += number((mx.exp(expected) * (expected - found)).sum())
        same += number((mx.argmax(found, axis=1) == mx.argmax(expected, axis=1)).sum())
        count += len(piece.ids) - piece.start
    return math.exp(loss / count), kl / count, same / count


def log_probabilities(decoder: Decoder, piece: Piece) -> mx.array:
    """(tokens counted, vocabulary), in float32."""
    ids = piece.ids[:-1]
    wanted = len(piece.ids) - piece.start
    logits = decoder(mx.array(ids), [Segment(decoder.make_cache(), len(ids), wanted)])
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def number(scalar: mx.array) -> float:
    """The Python number of an array without axes."""
    return float(cast("float", scalar.item()))


def show(results: list[Figures], tokens: int) -> None:
    """The table of benchmarks/README.md."""
    table = Table(title=f"{tokens:,} tokens")
    for title in ("weights", "bits", "error", "perplexity", "KL, nats", "same top token", "s"):
        table.add_column(title, justify="left" if title == "weights" else "right")
    for row in results:
        table.add_row(
            row.name,
            f"{row.bits:.2f}",
            f"{row.weight_error:.2%}",
            f"{row.perplexity:.4f}",
            f"{row.kl:.2e}",
            f"{row.same_top:.2%}",
            f"{row.seconds:.0f}",
        )
    Console(width=110).print(table)


def report(results: list[Figures], tokens: int) -> dict[str, object]:
    """What was measured, where and with what."""
    return {
        "benchmark": "quality",
        "date": date.today().isoformat(),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "mlx": version("mlx"),
        "tokens": tokens,
        "results": [asdict(result) for result in results],
    }


if __name__ == "__main__":
    main()
