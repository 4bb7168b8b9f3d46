"""What quantised weights cost: perplexity and KL divergence from the bf16 source, recipe by recipe.

python benchmarks/quality.py [--source FOLDER_OR_GGUF --text FILE --calibration FILE]
                             [--pieces 16] [--only NAME ...]
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
from rich.console import Console

from magistral_mlx import spec
from magistral_mlx.bench.report_parts import json_line, records_table
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.convert.output.manifest import StoredModel, open_stored
from magistral_mlx.convert.rounding.calibration import embedded_pieces, load_stored
from magistral_mlx.convert.rounding.importance import EMBEDDING, write_importance
from magistral_mlx.convert.rounding.layer_walk import product, walk
from magistral_mlx.convert.sources.open_source import open_source
from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.memory.byte_counts import weight_bytes
from magistral_mlx.text.template_tokenizer import open_tokenizer
from magistral_mlx.text.tokenizer import Tokenizer

PIECE = 512
MIXED_BITS = 4.0
FITTED, ROUNDED, WEIGHTED, CALIBRATED = "fitted", "rounded", "weighted", "calibrated"
BOTH = "calibrated and weighted"
"""For a model whose embedding is its head: the embedding is weighted, the rest calibrated."""

METHODS = (ROUNDED, FITTED, WEIGHTED, CALIBRATED)
COLUMNS = {
    "weights": "{name}",
    "bits": "{bits:.2f}",
    "error": "{weight_error:.2%}",
    "perplexity": "{perplexity:.4f}",
    "KL, nats": "{kl:.3e}",
    "same top token": "{same_top:.2%}",
    "s": "{seconds:.0f}",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to convert; weighted and calibrated need a text to calibrate on."""

    recipe: str
    group_size: int
    method: str

    @property
    def name(self) -> str:
        """For example "q4, group 64, fitted"."""
        return f"{self.recipe}, group {self.group_size}, {self.method}"


PLAIN = (("q4", 64), ("q3", 64), ("q4", 32), ("q3", 32))
SETTINGS = (
    *(Setting(recipe, size, method) for recipe, size in PLAIN for method in METHODS),
    Setting("q4", 64, BOTH),
    Setting("mixed", 64, FITTED),
    Setting("mixed", 64, CALIBRATED),
    Setting("q8", 64, ROUNDED),
    Setting("q8", 64, FITTED),
)


@dataclass(frozen=True, slots=True)
class WeightQuality:
    """Of one setting. kl: nats per token from the bf16 model; same_top: fraction of tokens."""

    name: str
    bits: float
    weight_error: float
    perplexity: float
    kl: float
    same_top: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ScoredPiece:
    """Token ids; those from `start` on are predicted and counted."""

    ids: list[int]
    start: int


@dataclass(frozen=True, slots=True)
class ModelStates:
    """A model's last hidden states, piece by piece, and its head, which makes logits of them."""

    hidden: list[mx.array]
    head: mx.array

    @classmethod
    def of(cls, stored: StoredModel, pieces: Sequence[ScoredPiece]) -> "ModelStates":
        """Run a folder's model over the pieces, with one layer in memory at a time."""
        config = open_checkpoint(stored.checkpoint.folder).config
        load = load_stored(config, stored.places)
        inputs = embedded_pieces(config, [piece.ids[:-1] for piece in pieces], stored.places)
        *_, last = walk(config, inputs, load)
        counted = zip(last.inputs(), pieces, strict=True)
        hidden = [states[piece.start - 1 :] for states, piece in counted]
        mx.eval(hidden)
        return cls(hidden, load(f"{EMBEDDING if config.tie_word_embeddings else 'lm_head'}.weight"))

    def log_probabilities(self, index: int) -> mx.array:
        """(tokens counted, vocabulary), in float32."""
        logits = product(self.hidden[index], self.head).astype(mx.float32)
        return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def main() -> None:
    """Convert, measure, print a table, and end with one line of JSON."""
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        plain = convert(options.source, work / "bf16", ConversionOptions(recipe="bf16"))
        pieces = text_pieces(open_tokenizer(plain), options)
        exact = open_stored(plain)
        expected, tied = ModelStates.of(exact, pieces), exact.checkpoint.config.tie_word_embeddings
        results = [WeightQuality("bf16", 16.0, 0.0, *compare(expected, expected, pieces), 0.0)]
        for setting in chosen(options, tied):
            results.append(measure(setting, options, work, expected, pieces))
            print(results[-1], flush=True)
    tokens = sum(len(piece.ids) - piece.start for piece in pieces)
    figures = [asdict(result) for result in results]
    table = records_table(f"{tokens:,} tokens", COLUMNS, figures, left=["weights"])
    Console(width=110).print(table)
    print(json_line("quality", {"tokens": tokens, "results": figures}))


def arguments() -> argparse.Namespace:
    """What to measure, and on what."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default="demo")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--module", action="append", default=[], help="PATTERN=RECIPE, for all")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--pieces", type=int, default=16)
    parser.add_argument("--only", nargs="*", default=[], help="settings whose names contain these")
    return parser.parse_args()


def text_pieces(tokenizer: Tokenizer, options: argparse.Namespace) -> list[ScoredPiece]:
    """Questions with answers, or pieces of a text, each predicted from its beginning."""
    if options.text is None:
        return questions(tokenizer, options.questions)
    ids = tokenizer.encode(options.text.read_text(encoding="utf-8"))
    cuts = pairwise(range(0, len(ids) + 1, PIECE))
    return [ScoredPiece(ids[start:stop], 1) for start, stop in cuts][: options.pieces]


def questions(tokenizer: Tokenizer, count: int) -> list[ScoredPiece]:
    """Conversations of one turn; reasoning and answer are counted."""
    control = {name: tokenizer.control_id(name) or 0 for name in ("[INST]", "[/INST]")}
    pieces = []
    for question in held_out_questions(count):
        asked = [control["[INST]"], *tokenizer.encode(question.text), control["[/INST]"]]
        thought = f"{spec.THINK_OPEN}\n{question.reasoning}\n{spec.THINK_CLOSE}\n"
        reply = [*tokenizer.encode(thought + question.answer), tokenizer.eos_id]
        pieces.append(ScoredPiece([tokenizer.bos_id, *asked, *reply], 1 + len(asked)))
    return pieces


def chosen(options: argparse.Namespace, tied: bool) -> Iterator[Setting]:
    """The settings that were asked for, and that this source and these texts allow."""
    for setting in SETTINGS:
        method = setting.method
        named = not options.only or any(part in setting.name for part in options.only)
        possible = tied or method != BOTH
        needs_text = method not in (ROUNDED, FITTED)
        if named and possible and not (needs_text and options.calibration is None):
            yield setting


def measure(
    setting: Setting,
    options: argparse.Namespace,
    work: Path,
    expected: ModelStates,
    pieces: Sequence[ScoredPiece],
) -> WeightQuality:
    """Convert with one setting and compare with the exact model."""
    importance = importance_of(options, work) if setting.method in (WEIGHTED, BOTH) else None
    started = time.monotonic()
    stored = open_stored(convert_with(setting, options, work, importance))
    seconds = time.monotonic() - started
    config = stored.checkpoint.config
    plain = replace(config, quantization=None, module_quantization=())
    weights = weight_bytes(plain, "bfloat16") // 2
    bits = 8 * weight_bytes(config, "bfloat16") / weights
    mean = statistics.mean(error.mean for error in stored.errors.values())
    found = compare(ModelStates.of(stored, pieces), expected, pieces)
    return WeightQuality(setting.name, bits, mean, *found, seconds)


def importance_of(options: argparse.Namespace, work: Path) -> Path:
    """The file of importances, written at the first call."""
    file = work / "importance.safetensors"
    if not file.exists():
        source = open_source(options.source, fetched=work / "fetched")
        write_importance(source, options.calibration, file)
    return file


def convert_with(
    setting: Setting, options: argparse.Namespace, work: Path, importance: Path | None
) -> Path:
    """The folder of one setting."""
    return convert(
        options.source,
        work / "converted",
        ConversionOptions(
            recipe=setting.recipe,
            group_size=setting.group_size,
            target_bits=MIXED_BITS if setting.recipe == "mixed" else None,
            modules=options.module,
            rtn=setting.method == ROUNDED,
            importance=importance,
            calibrate=options.calibration if setting.method in (CALIBRATED, BOTH) else None,
            force=True,
        ),
    )


def compare(
    found: ModelStates, exact: ModelStates, pieces: Sequence[ScoredPiece]
) -> tuple[float, float, float]:
    """Perplexity, KL from the exact model, and how often both have the same top token."""
    loss = kl = same = 0.0
    count = 0
    for index, piece in enumerate(pieces):
        ours, theirs = (model.log_probabilities(index) for model in (found, exact))
        targets = mx.array(piece.ids[piece.start :])[:, None]
        loss -= float(np.array(mx.take_along_axis(ours, targets, axis=1).sum()))
        kl += float(np.array((mx.exp(theirs) * (theirs - ours)).sum()))
        same += float(np.array((mx.argmax(ours, axis=1) == mx.argmax(theirs, axis=1)).sum()))
        count += len(piece.ids) - piece.start
    return math.exp(loss / count), kl / count, same / count


if __name__ == "__main__":
    main()
