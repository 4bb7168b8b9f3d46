"""What quantised weights cost: perplexity and KL divergence from the bf16 source, recipe by recipe.

    python benchmarks/quality.py [--source FOLDER_OR_GGUF --text FILE --calibration FILE]
                                 [--pieces 16] [--only NAME ...]

By default the nano model that comes with the package, on held-out questions with their reasoning
and answers. Another source is measured on a text file, in pieces of 512 tokens. With --calibration,
also what is weighted by importance and calibrated on that text, which should be another one; with
--mlx-lm, mlx-lm's GPTQ and AWQ on the same pieces of it too. mlx_lm.convert gives the bytes of
"rounded".
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Literal

from divergence import Output, Piece, compare, output
from rich.console import Console
from rich.table import Table

from magistral_mlx import spec
from magistral_mlx.convert import convert
from magistral_mlx.convert.output.stored_model import open_stored
from magistral_mlx.convert.rounding.importance import EMBEDDING, write_importance
from magistral_mlx.convert.rounding.recipe import AFFINE
from magistral_mlx.convert.sources.open_source import open_source
from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.memory.byte_counts import weight_bytes
from magistral_mlx.text.template_tokenizer import open_tokenizer
from magistral_mlx.text.tokenizer import Tokenizer

PIECE = 512
FITTED, ROUNDED, WEIGHTED, CALIBRATED = "fitted", "rounded", "weighted", "calibrated"
MLX_LM: dict[str, Literal["GPTQ", "AWQ"]] = {"mlx-lm GPTQ": "GPTQ", "mlx-lm AWQ": "AWQ"}
BOTH = "calibrated and weighted"
"""For a model whose embedding is its head: it is weighted, the rest calibrated."""

METHODS = (ROUNDED, FITTED, WEIGHTED, CALIBRATED)


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to convert; weighted and calibrated need a text to calibrate on."""

    recipe: str
    group_size: int
    method: str
    target_bits: float | None = None

    @property
    def name(self) -> str:
        kind = "mixed" if self.target_bits is None else f"mixed to {self.target_bits}"
        kind = kind if self.recipe == "mixed" else self.recipe
        return f"{kind}, group {self.group_size}, {self.method}"


PLAIN = (("q4", 64), ("q3", 64), ("q4", 32), ("q3", 32))
SETTINGS = (
    *(Setting(recipe, size, method) for recipe, size in PLAIN for method in METHODS),
    *(Setting("q4", 64, method) for method in (BOTH, *MLX_LM)),
    Setting("mixed", 64, FITTED, target_bits=4.0),
    Setting("mixed", 64, CALIBRATED, target_bits=4.0),
    Setting("q8", 64, ROUNDED),
    Setting("q8", 64, FITTED),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one setting: KL in nats a token from the bf16 model, and share of equal top tokens."""

    name: str
    bits: float
    weight_error: float | None
    perplexity: float
    kl: float
    same_top: float
    seconds: float


def main() -> None:
    """Convert, measure, print a table, and end with one line of JSON."""
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        plain = convert(options.source, work / "bf16", recipe="bf16")
        pieces = text_pieces(open_tokenizer(plain), options)
        exact = open_stored(plain)
        expected, tied = output(exact, pieces), exact.checkpoint.config.tie_word_embeddings
        results = [Figures("bf16", 16.0, 0.0, *compare(expected, expected, pieces), 0.0)]
        print(results[0], flush=True)
        for setting, importance in chosen(options, work, tied):
            results.append(measure(setting, options, work, importance, expected, pieces))
            print(results[-1], flush=True)
    tokens = sum(len(piece.ids) - piece.start for piece in pieces)
    show(results, tokens)
    print(json.dumps(report(results, tokens)))


def arguments() -> argparse.Namespace:
    """What to measure, and on what."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--source", default="demo")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--mlx-lm", action="store_true", help="measure mlx-lm's GPTQ and AWQ too")
    parser.add_argument("--module", action="append", default=[], help="PATTERN=RECIPE, for all")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--pieces", type=int, default=16)
    parser.add_argument("--only", nargs="*", default=[], help="settings whose names contain these")
    return parser.parse_args()


def text_pieces(tokenizer: Tokenizer, options: argparse.Namespace) -> list[Piece]:
    """Questions with answers, or pieces of a text, each predicted from its own beginning."""
    if options.text is None:
        return questions(tokenizer, options.questions)
    ids = tokenizer.encode(options.text.read_text(encoding="utf-8"))
    cuts = pairwise(range(0, len(ids) + 1, PIECE))
    return [Piece(ids[start:stop], 1) for start, stop in cuts][: options.pieces]


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


def chosen(
    options: argparse.Namespace, work: Path, tied: bool
) -> Iterator[tuple[Setting, Path | None]]:
    """The settings that can be measured, with the file of importances where they take one."""
    importance = work / "importance.safetensors"
    for setting in SETTINGS:
        named = not options.only or any(part in setting.name for part in options.only)
        needs_text = setting.method in (WEIGHTED, CALIBRATED, BOTH, *MLX_LM)
        asked = options.mlx_lm if setting.method in MLX_LM else tied or setting.method != BOTH
        if not (named and asked) or (needs_text and options.calibration is None):
            continue
        weighted = setting.method in (WEIGHTED, BOTH)
        if weighted and not importance.exists():
            source = open_source(options.source, fetched=work / "fetched")
            write_importance(source, options.calibration, importance)
        yield setting, importance if weighted else None


def measure(
    setting: Setting,
    options: argparse.Namespace,
    work: Path,
    importance: Path | None,
    expected: Output,
    pieces: Sequence[Piece],
) -> Figures:
    """Convert with one setting and compare with the exact model."""
    started = time.monotonic()
    stored = open_stored(quantised(setting, options, work, importance))
    seconds = time.monotonic() - started
    config = stored.checkpoint.config
    plain = replace(config, quantization=None, module_quantization=())
    weights = weight_bytes(plain, "bfloat16") // 2
    bits = 8 * weight_bytes(config, "bfloat16") / weights
    errors = [error.mean for error in stored.errors.values()]
    figures = compare(output(stored, pieces), expected, pieces)
    mean = sum(errors) / len(errors) if errors else None
    return Figures(setting.name, bits, mean, *figures, seconds)


def quantised(
    setting: Setting, options: argparse.Namespace, work: Path, importance: Path | None
) -> Path:
    """The folder of one setting."""
    if setting.method in MLX_LM:
        return theirs(setting, options, work)
    return convert(
        options.source,
        work / "converted",
        recipe=setting.recipe,
        group_size=setting.group_size,
        target_bits=setting.target_bits,
        modules=options.module,
        rtn=setting.method == ROUNDED,
        importance=importance,
        calibrate=options.calibration if setting.method in (CALIBRATED, BOTH) else None,
        force=True,
    )


def theirs(setting: Setting, options: argparse.Namespace, work: Path) -> Path:
    """The folder that mlx-lm makes, with the embedding as it is in ours."""
    # It imports a part of mlx-lm that nothing else here needs.
    from mlx_lm_calibrated import write_calibrated

    rules = [rule.partition("=") for rule in (f"{EMBEDDING}={setting.recipe}", *options.module)]
    embedding = [recipe for module, _, recipe in rules if module == EMBEDDING][-1]
    return write_calibrated(
        work / "bf16",
        work / "theirs",
        options.calibration,
        way=MLX_LM[setting.method],
        bits=AFFINE[setting.recipe],
        group_size=setting.group_size,
        embedding_bits=AFFINE[embedding],
    )


def show(results: list[Figures], tokens: int) -> None:
    """The table of benchmarks/README.md."""
    table = Table(title=f"{tokens:,} tokens")
    for title in ("weights", "bits", "error", "perplexity", "KL, nats", "same top token", "s"):
        table.add_column(title, justify="left" if title == "weights" else "right")
    for row in results:
        table.add_row(
            row.name,
            f"{row.bits:.2f}",
            "" if row.weight_error is None else f"{row.weight_error:.2%}",
            f"{row.perplexity:.4f}",
            f"{row.kl:.3e}",
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
