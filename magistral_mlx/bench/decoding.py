"""Decode rates beside mlx-lm: of one stream, of several, and by the length of the context."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache
from rich.table import Table

from magistral_mlx.bench.bench_model import SideBySide, unlimited_engine
from magistral_mlx.bench.cases import random_ids
from magistral_mlx.bench.mlx_lm_contender import (
    BatchOutputs,
    MlxLm,
    load_mlx_lm,
    run_batch,
    run_steps,
    run_with_text,
)
from magistral_mlx.bench.recording import TimedOutput, joint_decode_rate, run_ours
from magistral_mlx.bench.spread import Ratio, in_turn
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.device import compute_dtype, dtype_of
from magistral_mlx.engine.engine import Engine
from magistral_mlx.kv.cache import BLOCK, KVCache
from magistral_mlx.kv.disk.store import KVStore
from magistral_mlx.memory.byte_counts import kv_bytes_per_token
from magistral_mlx.text.conversation import Message, prompt_ids
from magistral_mlx.text.tokenizer import Tokenizer

LENGTHS = (1_024, 2_048, 4_096, 8_192, 16_384, 32_768)
QUICK_LENGTHS = (1_024, 4_096)
TOKENS = 16
ROOM = 32
"""The context is this much shorter than its length: no cache grows by a block meanwhile."""

KEPT_BYTES = 4_000_000_000
"""Memory for our finished KV, and disk for the made-up one."""

Figures = list[dict[str, object]]
KeysValues = tuple[mx.array, mx.array]


def comparison_table(title: str, *columns: str, rounds: int) -> Table:
    """A table of ours, theirs and the ratio, after other columns."""
    table = Table(*columns, title=title)
    table.caption = "one round" if rounds == 1 else f"medians of {rounds} rounds, and the range"
    return table


def cells(ratio: Ratio, *, style: str = ",.1f", scale: float = 1) -> tuple[str, str, str]:
    """Ours, theirs and the ratio."""
    return format(scale * ratio.ours, style), format(scale * ratio.theirs, style), ratio.text()


def question_ids(folder: Path) -> list[int]:
    """A question that the demo model can answer, with Magistral's system prompt."""
    question = held_out_questions(1)[0]
    return prompt_ids(Tokenizer.open(folder), [Message("user", question.text)])


def measure_single(models: SideBySide) -> tuple[Table, Figures]:
    """One stream of the demo model, and in full also of the wide one."""
    rounds = 3
    columns = ("model", "tokens", "magistral-mlx", "mlx-lm", "ours / theirs")
    table = comparison_table("One stream, tokens per second", *columns, rounds=rounds)
    figures: Figures = []
    if models.quick:
        cases = [("demo", models.demo, random_ids(16), 48)]
    else:
        cases = [("demo", models.demo, question_ids(models.demo), 96)]
        cases.append(("wide", models.wide, random_ids(16), 24))
    for name, folder, prompt, tokens in cases:
        mlx_lm = load_mlx_lm(folder)
        with unlimited_engine(folder) as engine:
            sides = (
                partial(_first, engine, prompt, tokens),
                partial(run_with_text, mlx_lm, prompt, tokens),
            )
            ours, theirs = in_turn(sides, rounds=rounds, done=models.done)
        ratio = Ratio.of([o.decode_rate for o in ours], [o.decode_rate for o in theirs])
        same = all(a.tokens == b.tokens for a, b in zip(ours, theirs, strict=True))
        table.add_row(name, f"{tokens:,}", *cells(ratio))
        case = {"model": name, "prompt": len(prompt), "tokens": tokens, "same_tokens": same}
        figures.append(case | ratio.json(theirs="mlx_lm"))
    return table, figures


def _first(engine: Engine, prompt: Sequence[int], tokens: int) -> TimedOutput:
    return run_ours(engine, [prompt], tokens)[0]


@dataclass(frozen=True, slots=True)
class _Batch:
    """The length of each prompt, and of an output."""

    name: str
    lengths: Sequence[int]
    tokens: int = 64

    @property
    def prompts(self) -> list[list[int]]:
        return [random_ids(length, seed=i) for i, length in enumerate(self.lengths)]


QUICK_BATCHES = (_Batch("4, mixed", (16, 32, 64, 320), 48),)
BATCHES = (
    _Batch("4, equal", (128,) * 4),
    _Batch("4, mixed", (32, 64, 128, 512)),
    _Batch("8, equal", (128,) * 8),
    _Batch("8, mixed", (16, 32, 64, 96, 128, 160, 192, 320)),
)


def measure_batch(models: SideBySide) -> tuple[Table, Figures]:
    """4 and 8 streams of the demo model, of equal and of mixed lengths.

    Raises ValueError if our KV takes more than the streams' lengths and a block each.
    """
    rounds, folder = 1 if models.quick else 2, models.demo
    title = "Several streams of the demo model: tokens per second of all, megabytes of KV"
    columns = ("streams, prompts", "", "magistral-mlx", "mlx-lm", "ratio, more is better")
    table, figures = comparison_table(title, *columns, rounds=rounds), list[dict[str, object]]()
    mlx_lm, per_token = load_mlx_lm(folder), _bytes_per_token(folder)
    run_batch(mlx_lm, [random_ids(16)], 4)
    with unlimited_engine(folder) as engine:
        run_ours(engine, [random_ids(16)], 4)
        for case in QUICK_BATCHES if models.quick else BATCHES:
            sides = (
                partial(_run_batch, engine, case, per_token),
                partial(run_batch, mlx_lm, case.prompts, case.tokens),
            )
            ours, theirs = in_turn(sides, rounds=rounds, done=models.done, warm_up=False)
            found = _batch_ratios(ours, theirs)
            for (name, ratio), label in zip(found.items(), (case.name, "", ""), strict=True):
                scale = 1e-6 if name == "kv_bytes" else 1
                table.add_row(label, name.replace("_", " "), *cells(ratio, scale=scale))
            figures.append(
                {"streams": len(case.lengths), "prompts": case.lengths, "tokens": case.tokens}
                | {name: ratio.json(theirs="mlx_lm") for name, ratio in found.items()}
                | {"same_tokens": _same_share(ours, theirs)}
            )
    return table, figures


def _bytes_per_token(folder: Path) -> int:
    config = open_checkpoint(folder).config
    return kv_bytes_per_token(config, config.dtype, bits=8 * dtype_of(config.dtype).size)


def _run_batch(engine: Engine, case: _Batch, per_token: int) -> BatchOutputs:
    outputs = run_ours(engine, case.prompts, case.tokens)
    for output in outputs:
        if not 0 < output.kv_bytes <= (output.kv_tokens + BLOCK) * per_token:
            raise ValueError(
                f"A stream of {output.kv_tokens:,} tokens has {output.kv_bytes:,} bytes of KV: "
                f"more than {per_token:,} per token and a block of {BLOCK} more."
            )
    return BatchOutputs(outputs, sum(output.kv_bytes for output in outputs))


def _batch_ratios(ours: Sequence[BatchOutputs], theirs: Sequence[BatchOutputs]) -> dict[str, Ratio]:
    sides = ours, theirs
    decode = ([_decode_rate(batch.outputs) for batch in side] for side in sides)
    whole = ([_whole_rate(batch.outputs) for batch in side] for side in sides)
    kv = ([float(batch.kv_bytes) for batch in side] for side in sides)
    return {
        "decode": Ratio.of(*decode),
        "with_prompts": Ratio.of(*whole),
        "kv_bytes": Ratio.of(*kv, inverse=True),
    }


def _decode_rate(outputs: Sequence[TimedOutput]) -> float:
    rate = joint_decode_rate(outputs)
    if rate is None:
        raise ValueError("The streams hardly decoded together: give them more tokens.")
    return rate


def _whole_rate(outputs: Sequence[TimedOutput]) -> float:
    """Tokens per second from the first submission to the last token, prefill included."""
    start = min(output.submitted for output in outputs)
    stop = max(output.last for output in outputs)
    return sum(len(output.tokens) for output in outputs) / (stop - start)


def _same_share(ours: Sequence[BatchOutputs], theirs: Sequence[BatchOutputs]) -> float:
    """The fraction of streams with the same tokens on both sides."""
    pairs = [
        pair
        for mine, other in zip(ours, theirs, strict=True)
        for pair in zip(mine.outputs, other.outputs, strict=True)
    ]
    return sum(mine.tokens == other.tokens for mine, other in pairs) / len(pairs)


def measure_context(models: SideBySide) -> tuple[Table, Figures]:
    """Milliseconds per decoded token of the demo model at each length of the context.

    The context is made up: keys and values of noise take as long to attend to as real ones. Ours
    are on disk, where the engine finds them; mlx-lm's are put into its cache.
    """
    lengths, rounds = (QUICK_LENGTHS, 2) if models.quick else (LENGTHS, 3)
    columns = ("context", "magistral-mlx", "mlx-lm", "theirs / ours")
    title = "A decoded token of the demo model by context, ms"
    table, figures = comparison_table(title, *columns, rounds=rounds), list[dict[str, object]]()
    mlx_lm = load_mlx_lm(models.demo)
    for length in lengths:
        ratio = _at_length(models, mlx_lm, length - ROOM, rounds)
        table.add_row(f"{length:,}", *cells(ratio))
        figures.append({"context": length, **ratio.json(theirs="mlx_lm")})
    return table, figures


def _at_length(models: SideBySide, mlx_lm: MlxLm, length: int, rounds: int) -> Ratio:
    prompt, folder = random_ids(length), models.demo
    context = list(_made_up(open_checkpoint(folder).config, length - 1))
    cache = make_prompt_cache(mlx_lm.model)
    for layer, keys_values in zip(cache, context, strict=True):
        layer.update_and_fetch(*keys_values)
    mx.eval([layer.state for layer in cache])

    def theirs() -> float:
        output = run_steps(mlx_lm, prompt[-1:], TOKENS, cache=cache)
        trim_prompt_cache(cache, cache[0].offset - (length - 1))
        return 1e3 / output.decode_rate

    with TemporaryDirectory(dir=models.scratch) as scratch:
        store = _store(folder, Path(scratch), prompt, context)
        with unlimited_engine(folder, prefix_bytes=KEPT_BYTES, kv_store=store) as engine:
            sides = (lambda: 1e3 / _first(engine, prompt, TOKENS).decode_rate, theirs)
            return Ratio.of(*in_turn(sides, rounds=rounds, done=models.done), inverse=True)


def _made_up(config: ModelConfig, tokens: int) -> Iterator[KeysValues]:
    """Keys and values of every layer: (1, kv_heads, tokens, head_dim)."""
    shape = (1, config.num_key_value_heads, tokens, config.head_dim)
    dtype = compute_dtype(config.dtype)
    for layer in range(config.num_hidden_layers):
        keys, values = (
            mx.random.normal(shape, key=mx.random.key(2 * layer + part)).astype(dtype)
            for part in range(2)
        )
        mx.eval(keys, values)
        yield keys, values


def _store(
    folder: Path, scratch: Path, prompt: Sequence[int], context: Sequence[KeysValues]
) -> KVStore:
    """A KV store on disk with the whole prompt but its last token."""
    checkpoint = open_checkpoint(folder)
    dtype = compute_dtype(checkpoint.config.dtype)
    cache = KVCache(len(context))
    for layer, (keys, values) in enumerate(context):
        cache.update(layer, keys, values)
    cache.advance(len(prompt) - 1)
    mx.eval(cache.arrays)
    store = KVStore(scratch, limit=KEPT_BYTES, checkpoint=checkpoint, dtype=dtype)
    store.write(tuple(prompt[:-1]), cache, used=time.time(), stop=lambda: False)
    return store
