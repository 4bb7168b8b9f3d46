"""What a KV cache of 8 or 4 bits costs in quality, and what it saves, beside one as computed.

    python benchmarks/kv_precision.py [--model demo] [--questions 16] [--context 2048]

Quality: a model answers arithmetic questions greedily with the exact cache, and the same tokens
are run again with each precision. Attention error is the norm of the difference over the norm of
the exact output, from the same queries, keys and values, the mean of all layers and texts. KL is
that of the next token's distribution from the exact one, over the answers' tokens.

Speed: the same model at one context length, and the attention of one layer of Magistral Small.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import numpy as np
from rich.console import Console
from rich.table import Table

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import convert
from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.device import compute_dtype
from magistral_mlx.kv.cache import KVCache, KVPrecision, kv_precision
from magistral_mlx.kv.quantised import QuantisedKVCache
from magistral_mlx.memory.plan import magistral_small
from magistral_mlx.model.decoder import Decoder, load_decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.text.conversation import Message, prompt_ids
from magistral_mlx.text.template_tokenizer import open_tokenizer

CHUNK = 512
ANSWER = 256
EXACT = kv_precision(None)
PRECISIONS = (
    EXACT,
    kv_precision(8),
    kv_precision(4),
    kv_precision(8, start=64),
    kv_precision(4, start=64),
)
QUALITY_COLUMNS = ("attention error", "KL, nats", "KL, 99 %", "same top token")
SPEED_COLUMNS = ("bytes a token", "prefill, tokens/s", "decode, ms", "24B layer: bytes", "ms")
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt and the answer to it, as ids; the answer starts at `prompt`."""

    ids: list[int]
    prompt: int


def main() -> None:
    """Measure, print two tables, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="demo", help='an MLX folder, or "demo"')
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--context", type=int, default=2048, help="tokens when speed is measured")
    parser.add_argument("--rounds", type=int, default=20, help="decode steps to take the median of")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        demo = args.model == "demo"
        folder = convert("demo", Path(scratch) / "nano-4bit") if demo else Path(args.model)
        checkpoint = open_checkpoint(folder)
        decoder = load_decoder(checkpoint)
        tokenizer = open_tokenizer(checkpoint.tokenizer_file)
    texts = [
        answered(decoder, prompt_ids(tokenizer, [Message("user", question.text)]), tokenizer.eos_id)
        for question in held_out_questions(args.questions)
    ]
    speeds = speed(decoder, args.context, args.rounds)
    results = [one | more for one, more in zip(quality(decoder, texts), speeds, strict=True)]
    layer = layer_speed(args.context, args.rounds)
    show(results, layer, args.context)
    print(json.dumps(report(args, texts, results, layer)))


def answered(decoder: Decoder, prompt: list[int], end: int) -> Text:
    """The greedy answer with a cache as computed."""
    ids, cache, new = list(prompt), decoder.make_cache(), list(prompt)
    while len(ids) < len(prompt) + ANSWER and ids[-1] != end:
        logits = decoder(mx.array(new), [Segment(cache, len(new), 1)])
        new = [int(np.array(mx.argmax(logits[0])))]
        ids += new
    return Text(ids, len(prompt))


def quality(decoder: Decoder, texts: Sequence[Text]) -> list[Figures]:
    """Attention error, KL and agreement of every precision, over all texts."""
    errors: list[list[float]] = [[] for _ in PRECISIONS]
    divergences: list[list[float]] = [[] for _ in PRECISIONS]
    agreed: list[list[bool]] = [[] for _ in PRECISIONS]
    for text in texts:
        probe = _Probe(decoder)
        exact = _log_probabilities(decoder, probe, text)
        mx.eval(exact, probe.errors)
        for number, precision in enumerate(PRECISIONS):
            other = _log_probabilities(decoder, _cache(decoder, precision), text)
            kl = (mx.exp(exact) * (exact - other)).sum(axis=-1)
            same = mx.argmax(exact, axis=-1) == mx.argmax(other, axis=-1)
            errors[number] += np.array(mx.stack(probe.errors[number])).tolist()
            divergences[number] += np.maximum(np.array(kl), 0).tolist()
            agreed[number] += np.array(same).tolist()
    return [
        {
            "attention_error": statistics.mean(error),
            "kl_mean": statistics.mean(kl),
            "kl_p99": float(np.percentile(kl, 99)),
            "same_top_token": statistics.mean(same),
        }
        for error, kl, same in zip(errors, divergences, agreed, strict=True)
    ]


class _Probe(KVCache):
    """Attends exactly, and notes how far a cache of every precision is from that."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder.config.num_hidden_layers)
        self._others = [_cache(decoder, precision) for precision in PRECISIONS]
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


def _log_probabilities(decoder: Decoder, cache: KVCache, text: Text) -> mx.array:
    """(answer tokens, vocab), in float32, of a text run in one step."""
    ids = text.ids[:-1]
    logits = decoder(mx.array(ids), [Segment(cache, len(ids), len(text.ids) - text.prompt)])
    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def speed(decoder: Decoder, context: int, rounds: int) -> list[Figures]:
    """Prefill and decode of every precision in turn, and the bytes a token."""
    caches = [_cache(decoder, precision) for precision in PRECISIONS]
    ids = mx.array(np.random.default_rng(0).integers(0, decoder.config.vocab_size, context))
    prefills = [_seconds(partial(_prefill, decoder, cache, ids)) for cache in caches]
    one = ids[:1]
    decodes: list[list[float]] = [[] for _ in caches]
    for _ in range(rounds + 1):
        for cache, times in zip(caches, decodes, strict=True):
            times.append(_seconds(partial(_decode, decoder, cache, one)))
    return [
        {
            "prefill_tokens_s": context / prefill,
            "decode_ms": 1e3 * statistics.median(times[1:]),
            "kv_bytes_token": _bytes_per_token(cache),
        }
        for cache, prefill, times in zip(caches, prefills, decodes, strict=True)
    ]


def _prefill(decoder: Decoder, cache: KVCache, ids: mx.array) -> None:
    cache.reserve(ids.size)
    for start in range(0, ids.size, CHUNK):
        chunk = ids[start : start + CHUNK]
        decoder(chunk, [Segment(cache, chunk.size, 0)])
        mx.eval(cache.stored)


def _decode(decoder: Decoder, cache: KVCache, token: mx.array) -> None:
    mx.eval(decoder(token, [Segment(cache, 1, 1)]))


def _bytes_per_token(cache: KVCache) -> float:
    """Of a token that is neither spare nor before the start of quantisation."""
    return sum(
        array.nbytes / array.shape[2]
        for array in cache.arrays
        if array.shape[2] != cache.precision.start
    )


def layer_speed(context: int, rounds: int) -> list[Figures]:
    """Attention of one layer of Magistral Small's shape, of one new token, all in turn."""
    config = magistral_small()
    dtype = compute_dtype(config.dtype)
    shape = (1, config.num_key_value_heads, context, config.head_dim)
    keys, values = (mx.random.normal(shape, key=mx.random.key(i)).astype(dtype) for i in (0, 1))
    queries = mx.repeat(keys[:, :, :1], config.num_attention_heads // shape[1], axis=1)
    caches = [_layer_cache(precision) for precision in PRECISIONS]
    for cache in caches:
        cache.update(0, keys, values)
        cache.advance(context)
        mx.eval(cache.arrays)
    one = keys[:, :, :1]
    times: list[list[float]] = [[] for _ in caches]
    for _ in range(rounds + 1):
        for cache, each in zip(caches, times, strict=True):
            each.append(_seconds(partial(_attend, cache, queries, one)))
    return [
        {
            "layer_ms": 1e3 * statistics.median(each[1:]),
            "layer_bytes_token": _bytes_per_token(cache),
        }
        for cache, each in zip(caches, times, strict=True)
    ]


def _attend(cache: KVCache, queries: mx.array, one: mx.array) -> None:
    mx.eval(cache.attend(0, queries, one, one, scale=queries.shape[3] ** -0.5))
    cache.advance(1)


def _layer_cache(precision: KVPrecision) -> KVCache:
    if precision.bits is None:
        return KVCache(1)
    return QuantisedKVCache(1, magistral_small().head_dim, precision)


def _cache(decoder: Decoder, precision: KVPrecision) -> KVCache:
    return decoder.make_cache(bits=precision.bits, start=precision.start)


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _name(precision: KVPrecision) -> str:
    if precision.bits is None:
        return "as computed"
    return f"{precision.bits} bits" + (f" from {precision.start}" if precision.start else "")


def show(results: list[Figures], layer: list[Figures], context: int) -> None:
    """Print quality and speed as two tables."""
    console = Console()
    table = Table("KV cache", *QUALITY_COLUMNS, title="Quality")
    for precision, result in zip(PRECISIONS, results, strict=True):
        table.add_row(
            _name(precision),
            f"{result['attention_error']:.2%}",
            f"{result['kl_mean']:.2e}",
            f"{result['kl_p99']:.2e}",
            f"{result['same_top_token']:.2%}",
        )
    console.print(table)
    table = Table("KV cache", *SPEED_COLUMNS, title=f"Speed at {context:,} tokens")
    for precision, result, one in zip(PRECISIONS, results, layer, strict=True):
        table.add_row(
            _name(precision),
            f"{result['kv_bytes_token']:,.0f}",
            f"{result['prefill_tokens_s']:,.0f}",
            f"{result['decode_ms']:.2f}",
            f"{one['layer_bytes_token']:,.0f}",
            f"{one['layer_ms']:.2f}",
        )
    console.print(table)


def report(
    args: argparse.Namespace,
    texts: Sequence[Text],
    results: list[Figures],
    layer: list[Figures],
) -> dict[str, object]:
    """The figures and what they depend on, for a machine to read."""
    return {
        "benchmark": "kv_precision",
        "date": date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": str(mx.default_device()),
        "versions": {name: version(name) for name in ("mlx", "numpy")},
        "model": args.model,
        "context": args.context,
        "texts": len(texts),
        "answer_tokens": sum(len(text.ids) - text.prompt for text in texts),
        "results": [
            {"bits": precision.bits, "start": precision.start}
            | {name: float(f"{value:.4g}") for name, value in (result | one).items()}
            for precision, result, one in zip(PRECISIONS, results, layer, strict=True)
        ],
    }


if __name__ == "__main__":
    main()
