"""What a decoded token costs by the length of its context, on both sides.

The context is made up: keys and values of noise, which take as long to attend to as real ones.
Ours lie on disk, where the engine finds them; mlx-lm's are put into its cache.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache
from rich.table import Table

from magistral_mlx.bench.mlx_lm import MlxLm, load_mlx_lm
from magistral_mlx.bench.output import Output
from magistral_mlx.bench.pairs import Ratio, in_turn, ratio_of
from magistral_mlx.bench.prompts import random_ids
from magistral_mlx.bench.recording import run_ours
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.device import compute_dtype
from magistral_mlx.kv.cache import KVCache
from magistral_mlx.kv.disk.store import KVStore

from .measurement import Plan, Result, spread_note
from .ours import our_engine

LENGTHS = (1_024, 2_048, 4_096, 8_192, 16_384, 32_768)
QUICK_LENGTHS = (1_024, 4_096)
TOKENS = 16
ROOM = 32
"""The context is so much shorter, so that no cache grows meanwhile: they do once in 256 tokens."""

KEPT_BYTES = 4_000_000_000
"""Memory for our finished KV, and disk for the made-up one."""

Rows = tuple[mx.array, mx.array]


def measure(plan: Plan) -> Result:
    """The nano at each length."""
    lengths, rounds = (QUICK_LENGTHS, 2) if plan.quick else (LENGTHS, 3)
    table = Table("context", "magistral-mlx", "mlx-lm", "theirs / ours")
    table.title, table.caption = "A decoded token by context, nano, ms", spread_note(rounds)
    figures: list[dict[str, object]] = []
    mlx_lm = load_mlx_lm(plan.models.nano)
    for length in lengths:
        ratio = _at(plan, mlx_lm, length - ROOM, rounds)
        table.add_row(f"{length:,}", *ratio.cells(",.1f"))
        figures.append({"context": length, **ratio.json(theirs="mlx_lm")})
    return Result(table, figures)


def _at(plan: Plan, mlx_lm: MlxLm, length: int, rounds: int) -> Ratio:
    """Milliseconds a token, both sides in turn."""
    prompt, folder = random_ids(length), plan.models.nano
    rows = list(_made_up(open_checkpoint(folder).config, length - 1))
    theirs = _Theirs(mlx_lm, rows)
    with TemporaryDirectory(dir=plan.models.scratch) as scratch:
        store = _store(folder, Path(scratch), prompt, rows)
        with our_engine(folder, prefix_bytes=KEPT_BYTES, kv_store=store) as engine:
            turns = in_turn(
                lambda: 1e3 / run_ours(engine, [prompt], TOKENS)[0].decode_rate,
                lambda: 1e3 / theirs.run(prompt).decode_rate,
                rounds=rounds,
                done=plan.tick,
            )
    return ratio_of(turns.ours, turns.theirs, inverse=True)


def _made_up(config: ModelConfig, tokens: int) -> Iterator[Rows]:
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


def _store(folder: Path, scratch: Path, prompt: Sequence[int], rows: Sequence[Rows]) -> KVStore:
    """Our disk with the KV of all of the prompt but its last token."""
    checkpoint = open_checkpoint(folder)
    dtype = compute_dtype(checkpoint.config.dtype)
    cache = KVCache(len(rows))
    for layer, (keys, values) in enumerate(rows):
        cache.update(layer, keys, values)
    cache.advance(len(prompt) - 1)
    mx.eval(cache.arrays)
    store = KVStore(scratch, limit=KEPT_BYTES, checkpoint=checkpoint, dtype=dtype)
    store.write(tuple(prompt[:-1]), cache, used=time.time(), stop=lambda: False)
    return store


class _Theirs:
    """mlx-lm's generation with one cache, which is cut back after use."""

    def __init__(self, mlx_lm: MlxLm, rows: Sequence[Rows]) -> None:
        self._model = mlx_lm.model
        self._cache = make_prompt_cache(mlx_lm.model)
        for cache, (keys, values) in zip(self._cache, rows, strict=True):
            cache.update_and_fetch(keys, values)
        mx.eval([cache.state for cache in self._cache])

    def run(self, prompt: Sequence[int]) -> Output:
        """Go on from the prompt's last token."""
        output = Output(submitted=time.perf_counter())
        last = mx.array([prompt[-1]])
        steps = generate_step(last, self._model, max_tokens=TOKENS, prompt_cache=self._cache)
        for token, _ in steps:
            output.tokens.append(token)
            output.marks.append((time.perf_counter(), len(output.tokens)))
        trim_prompt_cache(self._cache, self._cache[0].offset - (len(prompt) - 1))
        return output
