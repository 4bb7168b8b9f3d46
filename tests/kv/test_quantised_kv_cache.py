"""Quantised keys and values: attention, what happens to a cache, bytes, and peak memory."""

from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.device import on_cpu
from magistral_mlx.errors import RequestError
from magistral_mlx.kv import cache as kv_cache
from magistral_mlx.kv.cache import BLOCK, KVCache, KVPrecision, kv_precision
from magistral_mlx.kv.quantised import QuantisedKVCache
from magistral_mlx.memory.byte_counts import kv_bytes_per_token
from magistral_mlx.memory.plan import magistral_small

HEADS, KV_HEADS, DIM = 6, 2, 64
SCALE = DIM**-0.5

CHUNKS = [(0, 90, 90), (0, 1, 1), (130, 90, 7), (38, 3, 3)]
PRECISIONS = [kv_precision(8), kv_precision(4), kv_precision(8, start=40), kv_precision(4, start=3)]


def random_tokens(count: int, heads: int = KV_HEADS, seed: int = 0, dim: int = DIM) -> mx.array:
    return mx.random.normal((1, heads, count, dim), key=mx.random.key(seed))


def attend(cache: KVCache, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """What a step does, for every layer; the last one's output."""
    outputs = [
        cache.attend(layer, queries, keys, values, scale=SCALE) for layer in range(cache.layers)
    ]
    cache.advance(keys.shape[2])
    mx.eval(outputs, cache.arrays)
    return outputs[-1]


def store(cache: KVCache, keys: mx.array, values: mx.array) -> None:
    attend(cache, random_tokens(0, HEADS, dim=keys.shape[3]), keys, values)


def largest(difference: mx.array) -> float:
    return float(np.abs(np.array(difference)).max())


def mean(difference: mx.array) -> float:
    return float(np.abs(np.array(difference)).mean())


def plain_attention(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """The definition, written out: the last queries of a causal sequence."""
    repeats = queries.shape[1] // keys.shape[1]
    keys, values = mx.repeat(keys, repeats, axis=1), mx.repeat(values, repeats, axis=1)
    scores = queries @ keys.swapaxes(2, 3) * SCALE
    count, length = scores.shape[2:]
    own = mx.arange(length - count, length)[:, None]
    scores = mx.where(mx.arange(length) <= own, scores, -mx.inf)
    return mx.softmax(scores, axis=-1) @ values


def as_stored(rows: mx.array, precision: KVPrecision) -> mx.array:
    """Quantised and back, but for the first tokens."""
    assert precision.bits is not None
    group = 64 if rows.shape[3] % 64 == 0 else 32
    parts = mx.quantize(rows, group_size=group, bits=precision.bits)
    back = mx.dequantize(*parts, group_size=group, bits=precision.bits)
    return mx.concatenate([rows[:, :, : precision.start], back[:, :, precision.start :]], axis=2)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [64, 96])
@pytest.mark.parametrize(
    ("past", "new", "asked"), [(0, 90, 90), (0, 1, 1), (130, 90, 7), (38, 3, 3)]
)
@pytest.mark.parametrize("scores", [1, 2**30])
def test_attention_is_that_over_the_dequantised_rows(
    monkeypatch: pytest.MonkeyPatch,
    precision: KVPrecision,
    dim: int,
    past: int,
    new: int,
    asked: int,
    scores: int,
) -> None:
    monkeypatch.setattr(kv_cache, "CPU_SCORES", scores)
    keys, values = (random_tokens(past + new, seed=seed, dim=dim) for seed in (0, 1))
    queries = random_tokens(asked, HEADS, seed=2, dim=dim)
    cache = QuantisedKVCache(2, dim, precision)
    if past:
        store(cache, keys[:, :, :past], values[:, :, :past])
    got = attend(cache, queries, keys[:, :, past:], values[:, :, past:])
    want = plain_attention(queries, as_stored(keys, precision), as_stored(values, precision))
    assert largest(got - want) <= 1e-5


def test_the_error_is_what_the_bit_width_implies() -> None:
    keys, values = random_tokens(400), random_tokens(400, seed=1)
    queries = random_tokens(50, HEADS, seed=2)
    exact = plain_attention(queries, keys, values)

    def error(bits: int, start: int = 0) -> float:
        cache = QuantisedKVCache(1, DIM, kv_precision(bits, start=start))
        return mean(attend(cache, queries, keys, values) - exact)

    # A value's error is uniform over one step of its group: a quarter of a step on average, and
    # the weighted mean of many values has less. Keys add as much again.
    steps = {bits: 5.0 / (2**bits - 1) for bits in (8, 4)}  # 64 normal numbers span 5
    assert steps[8] / 400 < error(8) < steps[8] / 4
    assert steps[4] / 400 < error(4) < steps[4] / 4
    assert error(4) / error(8) == pytest.approx(255 / 15, rel=0.15)
    wrong = plain_attention(queries, keys[:, :, ::-1], values)
    assert 4 * error(4) < mean(wrong - exact)
    assert error(4, start=200) < 0.85 * error(4)
    assert error(4, start=400) < 1e-6


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("chunks", [[1] * 60, [17, 30, 1, 12], [40, 20], [3, 57]])
def test_any_chunks_give_the_same_attention(precision: KVPrecision, chunks: list[int]) -> None:
    keys, values = random_tokens(60), random_tokens(60, seed=1)
    queries = random_tokens(60, HEADS, seed=2)
    want = attend(QuantisedKVCache(2, DIM, precision), queries, keys, values)
    cache, got = QuantisedKVCache(2, DIM, precision), []
    for count in chunks:
        rows = (..., slice(cache.length, cache.length + count), slice(None))
        got.append(attend(cache, queries[rows], keys[rows], values[rows]))
    assert largest(mx.concatenate(got, axis=2) - want) <= 1e-5


Operation = tuple[str, int]
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["store", "trim", "copy", "reserve"]), st.integers(1, 300)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(OPERATIONS, st.sampled_from([8, 4]), st.sampled_from([0, 1, 100, 256, 300]))
def test_whatever_happens_to_a_cache_it_goes_on_like_a_fresh_one(
    operations: list[Operation], bits: int, start: int
) -> None:
    cache: KVCache = QuantisedKVCache(2, DIM, kv_precision(bits, start=start))
    rows = random_tokens(0)
    for number, (name, amount) in enumerate(operations):
        kept = min(amount, cache.length)
        if name == "store":
            new = random_tokens(amount, seed=number)
            store(cache, new, new)
            rows = mx.concatenate([rows, new], axis=2)
        elif name == "reserve":
            cache.reserve(amount)
        else:
            rows = rows[:, :, :kept]
            if name == "trim":
                cache.trim(kept)
            else:
                cache = cache.copy(kept)
    assert cache.length == rows.shape[2]
    fresh = QuantisedKVCache(2, DIM, cache.precision)
    if cache.length:
        store(fresh, rows, rows)
    one, query = random_tokens(1, seed=98), random_tokens(1, HEADS, seed=99)
    got, want = (attend(each, query, one, one) for each in (cache, fresh))
    assert largest(got - want) <= 1e-5


def test_a_copy_goes_its_own_way() -> None:
    keys, values = random_tokens(300), random_tokens(300, seed=1)
    original = QuantisedKVCache(2, DIM, kv_precision(4, start=10))
    store(original, keys, values)
    before = [np.array(array) for array in original.arrays]
    copied = original.copy(270)
    assert isinstance(copied, QuantisedKVCache)
    assert (copied.length, copied.precision) == (270, original.precision)
    more = random_tokens(20, seed=2)
    store(copied, more, more)
    assert original.length == 300
    for array, old in zip(original.arrays, before, strict=True):
        assert np.array_equal(np.array(array), old)


def test_trimming_gives_memory_back() -> None:
    cache = QuantisedKVCache(1, DIM, kv_precision(4, start=10))
    store(cache, random_tokens(4000), random_tokens(4000))
    held, size = mx.get_active_memory(), cache.nbytes
    cache.trim(300)
    mx.eval(cache.arrays)
    assert cache.nbytes < 0.15 * size
    assert held - mx.get_active_memory() > 0.8 * size
    cache.trim(0)
    assert cache.nbytes == 0


def shape(dim: int) -> ModelConfig:
    small = magistral_small()
    return replace(small, num_hidden_layers=2, num_key_value_heads=KV_HEADS, head_dim=dim)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dim", [64, 96, 128])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bytes_are_those_of_the_plan_in_whole_blocks(bits: int, dim: int, dtype: str) -> None:
    per_token = kv_bytes_per_token(shape(dim), dtype, bits=bits)
    cache = QuantisedKVCache(2, dim, kv_precision(bits))
    for count, blocks in ((1, 1), (255, 1), (1, 2), (400, 3)):
        rows = random_tokens(count, dim=dim)
        rows = rows.astype(mx.bfloat16) if dtype == "bfloat16" else rows
        store(cache, rows, rows)
        assert cache.nbytes == blocks * BLOCK * per_token


@pytest.mark.parametrize(("bits", "per_token"), [(8, 87_040), (4, 46_080)])
def test_bytes_of_magistral_small_match_the_model_card(bits: int, per_token: int) -> None:
    small = magistral_small()
    cache = QuantisedKVCache(small.num_hidden_layers, small.head_dim, kv_precision(bits))
    row = mx.zeros((1, small.num_key_value_heads, 1, small.head_dim), mx.bfloat16)
    store(cache, row, row)
    assert cache.nbytes == BLOCK * per_token


def test_tokens_before_the_start_take_their_own_bytes_and_no_more() -> None:
    plain, packed = (kv_bytes_per_token(shape(DIM), "float32", bits=bits) for bits in (32, 4))
    cache = QuantisedKVCache(2, DIM, kv_precision(4, start=10))
    store(cache, random_tokens(7), random_tokens(7))
    assert cache.nbytes == 10 * plain
    store(cache, random_tokens(300), random_tokens(300))
    assert cache.nbytes == 10 * plain + 2 * BLOCK * packed


def peak_of(run: Callable[[], mx.array]) -> int:
    """Most bytes in use beside what was there, while something is computed."""
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(run())
    return mx.get_peak_memory() - before


@pytest.mark.parametrize("precision", PRECISIONS)
def test_writing_a_token_copies_nothing(precision: KVPrecision) -> None:
    cache, one = QuantisedKVCache(1, DIM, precision), random_tokens(1)
    store(cache, random_tokens(4000), random_tokens(4000))
    nothing = random_tokens(0, HEADS)
    mx.eval(one, nothing)

    def write() -> mx.array:
        cache.attend(0, nothing, one, one, scale=SCALE)
        cache.advance(1)
        return cache.stored

    assert peak_of(write) < cache.nbytes / 20


def test_growth_copies_layer_after_layer() -> None:
    layers, count = 16, 8 * BLOCK
    cache = QuantisedKVCache(layers, DIM, kv_precision(4))
    store(cache, random_tokens(count), random_tokens(count))
    one, size = random_tokens(1), cache.nbytes
    mx.eval(one)

    def grow() -> mx.array:
        queries = mx.repeat(one, HEADS // KV_HEADS, axis=1)
        for layer in range(layers):  # each layer waits for the one before, as in a decoder
            queries = cache.attend(layer, queries, one, one, scale=SCALE)
        cache.advance(1)
        return queries

    assert peak_of(grow) < 0.6 * size


@pytest.mark.skipif(not on_cpu(), reason="other block sizes")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_prefill_makes_no_full_score_matrix(precision: KVPrecision) -> None:
    past, count = 2048, 512
    cache = QuantisedKVCache(1, DIM, precision)
    cache.reserve(past + count)
    store(cache, random_tokens(past), random_tokens(past))
    queries, keys = random_tokens(count, HEADS), random_tokens(count)
    mx.eval(queries, keys)
    matrix = HEADS * count * (past + count) * 4
    peak = peak_of(lambda: cache.attend(0, queries, keys, keys, scale=SCALE))
    assert peak < 0.4 * matrix  # before they were taken in turn: 0.7 to 1.3


@pytest.mark.parametrize("precision", PRECISIONS)
def test_prefill_makes_no_dequantised_copy(precision: KVPrecision) -> None:
    """Few queries, so that the scores are small beside the stored keys and values."""
    past, count = 24 * 1024, 2
    cache = QuantisedKVCache(1, DIM, precision)
    cache.reserve(past + count)
    store(cache, random_tokens(past), random_tokens(past))
    queries, keys = random_tokens(count, KV_HEADS), random_tokens(count)
    mx.eval(queries, keys)
    dequantised = 2 * KV_HEADS * (past + count) * DIM * 4
    peak = peak_of(lambda: cache.attend(0, queries, keys, keys, scale=SCALE))
    # MLX's CPU backend makes what is stored contiguous before it multiplies.
    assert peak < cache.nbytes + 0.1 * dequantised


def test_a_chunk_without_queries_is_computed_with_what_stands_for_it() -> None:
    """The engine waits for `stored` alone when a step draws no token."""
    cache = QuantisedKVCache(1, DIM, kv_precision(4, start=3))
    rows = random_tokens(9)
    cache.attend(0, random_tokens(0, HEADS), rows, rows, scale=SCALE)
    cache.advance(9)
    mx.eval(cache.stored)
    held = mx.get_active_memory()
    mx.eval(cache.arrays)
    assert mx.get_active_memory() == held  # nothing was left to compute


def test_heads_that_no_group_fits_are_refused() -> None:
    with pytest.raises(RequestError, match=r"Heads of 80 values.*16 bits"):
        QuantisedKVCache(1, 80, kv_precision(8))
