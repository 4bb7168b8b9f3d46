"""What a KV cache of 8 or 4 bits costs in quality, beside one as computed.

python benchmarks/kv_precision.py [--model demo] [--questions 16]
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx
import numpy as np
from rich.console import Console

from magistral_mlx.bench.report_parts import json_line, records_table
from magistral_mlx.bench.spread import four_digits
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import convert
from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.kv.cache import KVCache, KVPrecision, kv_precision
from magistral_mlx.model.decoder import Decoder, load_decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.text.conversation import Message, build_prompt
from magistral_mlx.text.template_tokenizer import open_tokenizer

ANSWER = 256
PRECISIONS = {
    "as computed": kv_precision(None),
    "8 bits": kv_precision(8),
    "4 bits": kv_precision(4),
    "8 bits from 64": kv_precision(8, start=64),
    "4 bits from 64": kv_precision(4, start=64),
}
COLUMNS = {
    "KV cache": "{name}",
    "attention error": "{attention_error:.2%}",
    "KL, nats": "{kl_mean:.2e}",
    "KL, 99 %": "{kl_p99:.2e}",
    "same top token": "{same_top_token:.2%}",
}

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class AnsweredPrompt:
    """A prompt and the answer to it, as ids; the answer starts at `prompt`."""

    ids: list[int]
    prompt: int


def main() -> None:
    """Measure, print a table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="demo", help='an MLX folder, or "demo"')
    parser.add_argument("--questions", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        demo = args.model == "demo"
        folder = convert("demo", Path(scratch) / "demo-4bit") if demo else Path(args.model)
        checkpoint = open_checkpoint(folder)
        decoder = load_decoder(checkpoint)
        tokenizer = open_tokenizer(checkpoint.tokenizer_file)
    texts = [
        answer(
            decoder, build_prompt(tokenizer, [Message("user", question.text)]).ids, tokenizer.eos_id
        )
        for question in held_out_questions(args.questions)
    ]
    results = quality(decoder, texts)
    figures = [
        {"name": name, "bits": precision.bits, "start": precision.start, **result}
        for (name, precision), result in zip(PRECISIONS.items(), results, strict=True)
    ]
    table = records_table("KV precision", COLUMNS, figures, left=["KV cache"])
    Console(width=110).print(table)
    tokens = sum(len(text.ids) - text.prompt for text in texts)
    settings = {"model": args.model, "texts": len(texts)}
    print(json_line("kv_precision", settings | {"answer_tokens": tokens, "results": figures}))


def answer(decoder: Decoder, prompt: list[int], end: int) -> AnsweredPrompt:
    """The greedy answer with a cache as computed."""
    ids, cache, new = list(prompt), decoder.make_cache(), list(prompt)
    while len(ids) < len(prompt) + ANSWER and ids[-1] != end:
        logits = decoder(mx.array(new), [Segment(cache, len(new), 1)])
        new = [int(np.array(mx.argmax(logits[0])))]
        ids += new
    return AnsweredPrompt(ids, len(prompt))


@dataclass(frozen=True, slots=True)
class _Differences:
    """Of one precision from the exact cache, over all texts."""

    errors: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    same: list[bool] = field(default_factory=list)

    def figures(self) -> Figures:
        figures = {
            "attention_error": statistics.mean(self.errors),
            "kl_mean": statistics.mean(self.kl),
            "kl_p99": float(np.percentile(self.kl, 99)),
            "same_top_token": statistics.mean(self.same),
        }
        return {name: four_digits(value) for name, value in figures.items()}


def quality(decoder: Decoder, texts: Sequence[AnsweredPrompt]) -> list[Figures]:
    """Attention error, KL and agreement of every precision, over all texts."""
    found = [_Differences() for _ in PRECISIONS]
    for text in texts:
        probe = _Probe(decoder)
        exact = _log_probabilities(decoder, probe, text)
        mx.eval(exact, probe.errors)
        for one, precision, errors in zip(found, PRECISIONS.values(), probe.errors, strict=True):
            other = _log_probabilities(decoder, _cache(decoder, precision), text)
            kl = (mx.exp(exact) * (exact - other)).sum(axis=-1)
            same = mx.argmax(exact, axis=-1) == mx.argmax(other, axis=-1)
            one.errors.extend(np.array(mx.stack(errors)).tolist())
            one.kl.extend(np.maximum(np.array(kl), 0).tolist())
            one.same.extend(np.array(same).tolist())
    return [one.figures() for one in found]


class _Probe(KVCache):
    """Attends exactly, and notes the error of a cache of every precision."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder.config.num_hidden_layers)
        self._others = [_cache(decoder, precision) for precision in PRECISIONS.values()]
        self.errors: list[list[mx.array]] = [[] for _ in PRECISIONS]

    def attend(
        self, layer: int, queries: mx.array, keys: mx.array, values: mx.array, *, scale: float
    ) -> mx.array:
        """As KVCache.attend."""
        exact = super().attend(layer, queries, keys, values, scale=scale)
        for cache, errors in zip(self._others, self.errors, strict=True):
            other = cache.attend(layer, queries, keys, values, scale=scale)
            errors.append(mx.linalg.norm(other - exact) / mx.linalg.norm(exact))
        return exact


def _log_probabilities(decoder: Decoder, cache: KVCache, text: AnsweredPrompt) -> mx.array:
    """(answer tokens, vocab), in float32, of a text run in one step."""
    ids = text.ids[:-1]
    logits = decoder(mx.array(ids), [Segment(cache, len(ids), len(text.ids) - text.prompt)])
    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def _cache(decoder: Decoder, precision: KVPrecision) -> KVCache:
    return decoder.make_cache(bits=precision.bits, start=precision.start)


if __name__ == "__main__":
    main()
