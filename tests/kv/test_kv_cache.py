"""One sequence's keys and values: growth, trimming, bytes, and attention in blocks of queries."""

import mlx.core as mx
import pytest

from magistral_mlx.device import on_cpu
from magistral_mlx.errors import RequestError
from magistral_mlx.kv import cache as kv_cache
from magistral_mlx.kv.cache import BLOCK, KVCache, kv_precision

HEADS, KV_HEADS, DIM = 4, 2, 8
TOKEN_BYTES = 2 * KV_HEADS * DIM * 4  # one layer's keys and values in float32
SCALE = DIM**-0.5


def random_tokens(count: int, heads: int = KV_HEADS, seed: int = 0) -> mx.array:
    return mx.random.normal((1, heads, count, DIM), key=mx.random.key(seed))


def store(cache: KVCache, keys: mx.array, values: mx.array) -> None:
    """What a step without logits does, for every layer."""
    for layer in range(cache.layers):
        cache.attend(layer, random_tokens(0, HEADS), keys, values, scale=SCALE)
    cache.advance(keys.shape[2])
    mx.eval(cache.arrays)


@pytest.mark.parametrize("chunks", [[700], [1, 255, 1, 443], [256, 256, 188], [3] * 233 + [1]])
def test_any_chunks_give_back_all_tokens_in_order(chunks: list[int]) -> None:
    keys, values = random_tokens(700), random_tokens(700, seed=1)
    cache = KVCache(2)
    for count in chunks:
        rows = slice(cache.length, cache.length + count)
        store(cache, keys[:, :, rows], values[:, :, rows])
    assert cache.length == 700
    for layer in range(cache.layers):
        stored_keys, stored_values = cache.arrays[2 * layer : 2 * layer + 2]
        assert mx.array_equal(stored_keys[:, :, :700], keys)
        assert mx.array_equal(stored_values[:, :, :700], values)


def test_bytes_are_the_tokens_and_less_than_one_block_more() -> None:
    cache = KVCache(3)
    assert cache.nbytes == 0
    for count in (1, 254, 1, 1, 600, 7):
        store(cache, random_tokens(count), random_tokens(count))
        spare = cache.nbytes / (3 * TOKEN_BYTES) - cache.length
        assert 0 <= spare < BLOCK


def test_a_reserved_prompt_is_allocated_once() -> None:
    cache = KVCache(1)
    cache.reserve(1000)
    store(cache, random_tokens(10), random_tokens(10))
    assert cache.nbytes == 1024 * TOKEN_BYTES
    for _ in range(11):
        store(cache, random_tokens(90), random_tokens(90))
    assert (cache.length, cache.nbytes) == (1000, 1024 * TOKEN_BYTES)


def test_growth_copies_layer_after_layer() -> None:
    """All layers must not exist twice, not even while a step moves them to larger storage."""
    layers, count = 16, 16 * BLOCK
    cache = KVCache(layers)
    store(cache, random_tokens(count), random_tokens(count))
    one = random_tokens(1)
    mx.eval(one)
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    queries = mx.repeat(one, 2, axis=1)
    for layer in range(layers):  # each layer waits for the one before, as in a decoder
        queries = cache.attend(layer, queries, one, one, scale=SCALE)
    cache.advance(1)
    mx.eval(queries, cache.arrays)
    assert mx.get_peak_memory() - before < 0.5 * cache.nbytes


def test_writing_a_token_copies_nothing() -> None:
    cache = KVCache(1)
    store(cache, random_tokens(4000), random_tokens(4000))
    one = random_tokens(1)
    mx.eval(one)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    store(cache, one, one)
    assert mx.get_peak_memory() - before < cache.nbytes / 10


@pytest.mark.parametrize("length", [0, 1, 255, 256, 300, 900])
def test_a_trimmed_cache_continues_like_a_fresh_one(length: int) -> None:
    keys, values = random_tokens(900), random_tokens(900, seed=1)
    trimmed, fresh = KVCache(2), KVCache(2)
    store(trimmed, keys, values)
    trimmed.trim(length)
    if length:
        store(fresh, keys[:, :, :length], values[:, :, :length])
    more, queries = random_tokens(5, seed=2), random_tokens(5, HEADS, seed=3)
    got, want = (
        cache.attend(1, queries, more, more, scale=SCALE).tolist() for cache in (trimmed, fresh)
    )
    assert got == want


@pytest.mark.parametrize("length", [0, 1, 256, 300])
def test_a_copy_goes_its_own_way(length: int) -> None:
    keys, values = random_tokens(300), random_tokens(300, seed=1)
    original, fresh = KVCache(2), KVCache(2)
    store(original, keys, values)
    if length:
        store(fresh, keys[:, :, :length], values[:, :, :length])
    copied = original.copy(length)
    assert (copied.length, copied.layers, copied.nbytes) == (length, 2, fresh.nbytes)
    more, queries = random_tokens(5, seed=2), random_tokens(5, HEADS, seed=3)
    store(copied, more, more)
    store(fresh, more, more)
    got, want = (cache.attend(1, queries, more, more, scale=SCALE) for cache in (copied, fresh))
    assert mx.array_equal(got, want)
    assert original.length == 300
    assert mx.array_equal(original.arrays[0][:, :, :300], keys)


def test_trimming_gives_memory_back() -> None:
    cache = KVCache(1)
    store(cache, random_tokens(4000), random_tokens(4000))
    held = mx.get_active_memory()
    cache.trim(300)
    mx.eval(cache.arrays)
    assert cache.nbytes == 512 * TOKEN_BYTES
    assert held - mx.get_active_memory() >= 3500 * TOKEN_BYTES
    cache.trim(0)
    assert cache.nbytes == 0


def test_trimming_beyond_the_length_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        KVCache(1).trim(1)


def plain_attention(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """The definition, written out: the last queries of a causal sequence."""
    repeats = HEADS // KV_HEADS
    keys, values = mx.repeat(keys, repeats, axis=1), mx.repeat(values, repeats, axis=1)
    scores = queries @ keys.swapaxes(2, 3) * SCALE
    count, length = scores.shape[2:]
    own = mx.arange(length - count, length)[:, None]
    scores = mx.where(mx.arange(length) <= own, scores, -mx.inf)
    return mx.softmax(scores, axis=-1) @ values


@pytest.mark.parametrize(("past", "new", "asked"), [(0, 90, 90), (130, 90, 90), (130, 90, 7)])
@pytest.mark.parametrize("scores", [1, 4 * 20 * 130, 2**30])
def test_attention_is_causal_however_the_queries_are_split(
    monkeypatch: pytest.MonkeyPatch, past: int, new: int, asked: int, scores: int
) -> None:
    monkeypatch.setattr(kv_cache, "CPU_SCORES", scores)
    keys, values = random_tokens(past + new), random_tokens(past + new, seed=1)
    queries = random_tokens(asked, HEADS, seed=2)
    cache = KVCache(1)
    if past:
        store(cache, keys[:, :, :past], values[:, :, :past])
    got = cache.attend(0, queries, keys[:, :, past:], values[:, :, past:], scale=SCALE)
    assert mx.allclose(got, plain_attention(queries, keys, values), rtol=1e-4, atol=1e-5)


def test_a_chunk_without_queries_is_only_stored() -> None:
    cache, keys = KVCache(1), random_tokens(6)
    nothing = cache.attend(0, random_tokens(6, HEADS)[:, :, 6:], keys, keys, scale=SCALE)
    assert nothing.shape == (1, HEADS, 0, DIM)
    cache.advance(6)
    assert cache.stored.item() == (keys + keys)[0, 0, 0, 0].item()


def test_precisions_are_told_apart_and_checked() -> None:
    assert KVCache(1).precision == kv_precision(None) == kv_precision(16) == kv_precision(32)
    assert kv_precision(16, start=4) == kv_precision(16)  # there is nothing to start
    assert len({kv_precision(16), kv_precision(8), kv_precision(4), kv_precision(4, start=4)}) == 4
    with pytest.raises(RequestError, match=r"KV cache of 5 bits.*16, 8 or 4"):
        kv_precision(5)
    with pytest.raises(RequestError, match="start at token -1"):
        kv_precision(8, start=-1)


@pytest.mark.skipif(not on_cpu(), reason="attention is fused")
def test_a_long_chunk_needs_no_full_score_matrix() -> None:
    count, past = 1024, 3072
    cache = KVCache(1)
    cache.reserve(past + count)
    store(cache, random_tokens(past), random_tokens(past))
    queries, keys = random_tokens(count, HEADS), random_tokens(count)
    mx.eval(queries, keys)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(cache.attend(0, queries, keys, keys, scale=SCALE))
    matrix = HEADS * count * (past + count) * 4
    assert mx.get_peak_memory() - before < 0.2 * matrix
