"""The prefix cache: what it finds, what it copies and moves, and how many bytes it holds."""

from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.kv import prefix_cache
from magistral_mlx.kv.cache import BLOCK, KVCache, KVPrecision
from magistral_mlx.kv.disk.store import KVStore
from magistral_mlx.kv.prefix_cache import LEAST_TOKENS, PrefixCache
from tests.kv.kv_samples import same_kv, sample_kv

LAYERS, KV_HEADS, HEAD_DIM = 2, 1, 4
BLOCK_BYTES = 2 * LAYERS * KV_HEADS * HEAD_DIM * BLOCK * 4


def kv_of(tokens: list[int]) -> KVCache:
    """KV in which every position tells the tokens up to it, as a real model's does."""
    cache = KVCache(LAYERS)
    cache.reserve(len(tokens))
    rows = mx.cumsum(mx.array(tokens, dtype=mx.float32) + 1)[None, None, :, None]
    rows = mx.broadcast_to(rows, (1, KV_HEADS, len(tokens), HEAD_DIM))
    for layer in range(LAYERS):
        cache.update(layer, rows + layer, -rows - layer)
    cache.advance(len(tokens))
    return cache


def assert_is_kv_of(cache: KVCache, tokens: list[int]) -> None:
    expected = kv_of(tokens)
    assert cache.length == len(tokens)
    for got, want in zip(cache.arrays, expected.arrays, strict=True):
        assert mx.array_equal(got[..., : len(tokens), :], want[..., : len(tokens), :])


def ids(length: int, seed: int = 0) -> list[int]:
    return [(7 * i + seed) % 50 for i in range(length)]


def test_a_whole_entry_is_moved_and_a_part_is_copied() -> None:
    prefixes = PrefixCache(limit=10**9)
    prefixes.put(ids(100), kv_of(ids(100)))
    branch = [*ids(60), 99, 98]
    part = prefixes.take(branch)
    assert part is not None
    assert_is_kv_of(part, ids(60))
    whole = prefixes.take([*ids(100), 1])
    assert whole is not None
    assert_is_kv_of(whole, ids(100))
    assert prefixes.nbytes == 0
    assert prefixes.take([*ids(100), 1]) is None


def test_an_entry_that_others_wait_for_is_copied() -> None:
    prefixes = PrefixCache(limit=10**9)
    prefixes.put(ids(100), kv_of(ids(100)))
    first = prefixes.take([*ids(100), 1], others=[[*ids(100), 2]])
    second = prefixes.take([*ids(100), 2])
    assert first is not None
    assert second is not None
    assert_is_kv_of(first, ids(100))
    assert_is_kv_of(second, ids(100))
    assert prefixes.nbytes == 0


def test_cutting_gives_the_rest_up() -> None:
    prefixes = PrefixCache(limit=10**9)
    prefixes.put(ids(600), kv_of(ids(600)))
    cache = prefixes.take([*ids(40), 99, 98], cut=True)
    assert cache is not None
    assert_is_kv_of(cache, ids(40))
    assert cache.nbytes == BLOCK_BYTES
    assert prefixes.nbytes == 0


def test_the_last_token_of_a_prompt_is_always_left_to_run() -> None:
    prefixes = PrefixCache(limit=10**9)
    prefixes.put(ids(100), kv_of(ids(100)))
    cache = prefixes.take(ids(100))
    assert cache is not None
    assert cache.length == 99


def test_short_beginnings_are_not_reused() -> None:
    prefixes = PrefixCache(limit=10**9)
    prefixes.put(ids(100), kv_of(ids(100)))
    assert prefixes.take([*ids(LEAST_TOKENS - 1), 99, 99]) is None
    assert prefixes.longest_prefix([*ids(LEAST_TOKENS - 1), 99, 99]) == 0


def test_a_longer_entry_takes_the_place_of_its_beginning() -> None:
    prefixes = PrefixCache(limit=10**9)
    prefixes.put(ids(50), kv_of(ids(50)))
    prefixes.put(ids(90), kv_of(ids(90)))
    prefixes.put(ids(70), kv_of(ids(70)))
    assert prefixes.nbytes == BLOCK_BYTES
    assert prefixes.longest_prefix([*ids(90), 1]) == 90


@given(
    st.lists(st.tuples(st.integers(17, 900), st.integers(1, 5)), min_size=1, max_size=5),
    st.integers(0, 12),
)
@settings(deadline=None, max_examples=40)
def test_what_must_go_goes_from_the_end_of_the_oldest_and_the_rest_is_whole(
    entries: list[tuple[int, int]], blocks: int
) -> None:
    prefixes = PrefixCache(limit=10**9)
    for length, seed in entries:
        prefixes.put(ids(length, seed), kv_of(ids(length, seed)))
    before = prefixes.nbytes
    prefixes.shrink(blocks * BLOCK_BYTES)
    # All of the room is used, but for the oldest that is left, of which only whole blocks are.
    assert prefixes.nbytes == min(before, blocks * BLOCK_BYTES)
    for length, seed in entries:
        known = prefixes.longest_prefix([*ids(length, seed), 99])
        assert known == length or known % BLOCK == 0
        cache = prefixes.take([*ids(length, seed), 99], others=[[*ids(length, seed), 98]])
        assert (cache is None) == (known == 0)
        if cache is not None:
            assert_is_kv_of(cache, ids(length, seed)[:known])


def test_what_was_used_longest_ago_goes_first() -> None:
    prefixes = PrefixCache(limit=2 * BLOCK_BYTES)
    for seed in (1, 2):
        prefixes.put(ids(50, seed), kv_of(ids(50, seed)))
    copied = prefixes.take([*ids(30, 1), 99])
    assert copied is not None
    prefixes.put(ids(50, 3), kv_of(ids(50, 3)))
    kept = {seed for seed in (1, 2, 3) if prefixes.longest_prefix([*ids(50, seed), 0]) == 50}
    assert kept == {1, 3}


def test_an_entry_larger_than_the_limit_is_not_kept() -> None:
    prefixes = PrefixCache(limit=BLOCK_BYTES)
    prefixes.put(ids(50), kv_of(ids(50)))
    prefixes.put(ids(300, 1), kv_of(ids(300, 1)))
    assert prefixes.longest_prefix([*ids(50), 0]) == 50
    assert prefixes.nbytes == BLOCK_BYTES


def test_the_caller_must_give_the_kv_of_exactly_these_tokens() -> None:
    with pytest.raises(AssertionError):
        PrefixCache(limit=10**9).put(ids(50), kv_of(ids(49)))


def on_disk(folder: Path, checkpoint: Checkpoint, *, limit: int = 10**9) -> PrefixCache:
    store = KVStore(folder, limit=10**9, checkpoint=checkpoint, dtype=mx.float32)
    return PrefixCache(limit=limit, disk=store)


def test_one_precision_never_stands_in_for_another(checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    prefixes = PrefixCache(limit=10**9)
    kinds = [KVPrecision(), KVPrecision(8), KVPrecision(4), KVPrecision(4, 32)]
    for kind in kinds[:-1]:
        prefixes.put(ids(100), sample_kv(config, ids(100), precision=kind))
    assert prefixes.longest_prefix([*ids(100), 1], precision=kinds[-1]) == 0
    assert prefixes.take([*ids(100), 1], precision=kinds[-1]) is None
    for kind in kinds[:-1]:
        taken = prefixes.take([*ids(100), 1], precision=kind)
        assert taken is not None
        assert same_kv(config, taken, sample_kv(config, ids(100), precision=kind))
    assert prefixes.nbytes == 0


def test_the_disk_serves_what_is_longer_there_than_in_memory(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    config = checkpoint.config
    first = on_disk(tmp_path, checkpoint)
    first.put(ids(400), sample_kv(config, ids(400)))
    assert first.unsaved
    first.close()
    prefixes = on_disk(tmp_path, checkpoint)
    prefixes.put(ids(200), sample_kv(config, ids(200)))
    assert not prefixes.unsaved  # the file holds those tokens, too
    assert prefixes.longest_prefix(ids(400)) == 399
    loaded = prefixes.take(ids(400))
    assert loaded is not None
    assert same_kv(config, loaded, sample_kv(config, ids(400)).copy(399))
    # Eighty tokens more are not worth reading a file.
    assert prefixes.longest_prefix(ids(281)) == 200
    taken = prefixes.take(ids(281))
    assert taken is not None
    assert taken.length == 200


def test_a_long_read_does_not_hold_up_those_that_run(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = on_disk(tmp_path, checkpoint)
    first.put(ids(400), sample_kv(checkpoint.config, ids(400)))
    first.close()
    prefixes = on_disk(tmp_path, checkpoint)
    monkeypatch.setattr(prefix_cache, "BRIEF_BYTES", 100_000)
    assert prefixes.take(ids(400), brief=True) is None
    assert prefixes.take(ids(400)) is not None


def test_what_is_evicted_goes_to_disk(checkpoint: Checkpoint, tmp_path: Path) -> None:
    config = checkpoint.config
    size = sample_kv(config, ids(200)).nbytes
    prefixes = on_disk(tmp_path, checkpoint, limit=2 * size)
    for seed in range(4):
        prefixes.put(ids(200, seed), sample_kv(config, ids(200, seed)))
        assert prefixes.nbytes <= 2 * size
    prefixes.close()
    assert prefixes.nbytes == 0
    again = on_disk(tmp_path, checkpoint)
    assert [again.longest_prefix([*ids(200, seed), 99]) for seed in range(4)] == [200] * 4


def test_saving_stops_when_it_is_told_to(checkpoint: Checkpoint, tmp_path: Path) -> None:
    prefixes = on_disk(tmp_path, checkpoint)
    for seed in range(3):
        prefixes.put(ids(200, seed), sample_kv(checkpoint.config, ids(200, seed)))
    prefixes.save(stop=lambda: len(list(tmp_path.glob("*.safetensors"))) == 1)
    assert prefixes.unsaved
    again = on_disk(tmp_path, checkpoint)
    assert [again.longest_prefix([*ids(200, seed), 99]) for seed in range(3)] == [0, 0, 200]


def test_nothing_is_removed_for_what_is_not_written(checkpoint: Checkpoint, tmp_path: Path) -> None:
    tokens, other = ids(200, 1), ids(200, 2)
    store = KVStore(tmp_path, limit=600_000, checkpoint=checkpoint, dtype=mx.float32)
    store.write(tokens, sample_kv(checkpoint.config, tokens), used=1.0, stop=lambda: False)
    prefixes = PrefixCache(limit=10**9, disk=store)
    prefixes.put(other, sample_kv(checkpoint.config, other))
    prefixes.save(stop=lambda: True)
    assert prefixes.longest_prefix([*tokens, 0]) == 200
    prefixes.save(stop=lambda: False)
    assert prefixes.longest_prefix([*tokens, 0]) == 0


prompts = st.lists(st.integers(0, 1), min_size=17, max_size=60)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(prompts, st.booleans()), max_size=12), st.integers(1, 4))
def test_what_is_taken_is_the_kv_of_the_tokens_and_bytes_stay_bounded(
    actions: list[tuple[list[int], bool]], blocks: int
) -> None:
    prefixes = PrefixCache(limit=blocks * BLOCK_BYTES)
    stored: list[list[int]] = []
    for tokens, put in actions:
        if put:
            prefixes.put(tokens, kv_of(tokens))
            stored.append(tokens)
        elif (cache := prefixes.take(tokens)) is not None:
            assert cache.length < len(tokens)
            assert any(other[: cache.length] == tokens[: cache.length] for other in stored)
            assert_is_kv_of(cache, tokens[: cache.length])
        assert 0 <= prefixes.nbytes <= blocks * BLOCK_BYTES
    prefixes.clear()
    assert prefixes.nbytes == 0
