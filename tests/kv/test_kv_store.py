"""KV on disk: what was written comes back, the budget is kept, the right things go."""

import json
import os
import stat
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.errors import RequestError
from magistral_mlx.kv.cache import KVCache, KVPrecision
from magistral_mlx.kv.disk import store as kv_store
from magistral_mlx.kv.disk.file import read_kv_file
from magistral_mlx.kv.prefix_cache import LEAST_TOKENS_ON_DISK
from tests.kv.kv_samples import (
    FILE_BYTES,
    NOW,
    files,
    ids,
    never,
    open_store,
    same_kv,
    sample_kv,
    warnings,
    write,
)

PLAIN = KVCache.precision


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "kv"


precisions = [
    PLAIN,
    KVPrecision(8),
    KVPrecision(4),
    KVPrecision(8, 5),
    KVPrecision(4, 256),
    KVPrecision(4, 400),
]


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
@pytest.mark.parametrize("precision", precisions)
def test_another_store_reads_bit_for_bit_what_was_written(
    dtype: mx.Dtype, precision: KVPrecision, folder: Path, checkpoint: Checkpoint
) -> None:
    config, tokens = checkpoint.config, ids(300)
    cache = sample_kv(config, tokens, dtype=dtype, precision=precision)
    open_store(folder, checkpoint, dtype=dtype).write(tokens, cache, used=NOW, stop=never)
    store = open_store(folder, checkpoint, dtype=dtype)
    for length in (300, 299, 257, 256, 128):
        prompt = [*tokens[:length], 1999, 1999]
        loaded = store.load(prompt, precision)
        assert store.longest_prefix(prompt, precision) == length
        assert loaded is not None
        assert same_kv(config, loaded, cache.copy(length), dtype=dtype)
        assert loaded.nbytes == cache.copy(length).nbytes


def test_what_is_loaded_can_be_gone_on_with(folder: Path, checkpoint: Checkpoint) -> None:
    config, tokens = checkpoint.config, ids(300)
    for precision in precisions:
        whole = sample_kv(config, tokens, precision=precision)
        store = open_store(folder, checkpoint)
        store.write(tokens[:200], whole.copy(200), used=NOW, stop=never)
        loaded = store.load(tokens, precision)
        assert loaded is not None
        rest = mx.ones((1, config.num_key_value_heads, 7, config.head_dim))
        queries = mx.ones((1, config.num_attention_heads, 7, config.head_dim))
        expected = whole.copy(200).attend(0, queries, rest, rest, scale=0.1)
        assert mx.array_equal(loaded.attend(0, queries, rest, rest, scale=0.1), expected)


def test_precisions_and_types_do_not_stand_in_for_each_other(
    folder: Path, checkpoint: Checkpoint
) -> None:
    store = open_store(folder, checkpoint)
    write(store, checkpoint, ids(200))
    assert store.longest_prefix(ids(200), KVPrecision(8)) == 0
    assert open_store(folder, checkpoint, dtype=mx.bfloat16).longest_prefix(ids(200), PLAIN) == 0
    assert open_store(folder, checkpoint).longest_prefix(ids(200), PLAIN) == 200


def test_the_file_is_plain_safetensors_for_this_user_alone(
    folder: Path, checkpoint: Checkpoint
) -> None:
    previous = os.umask(0)
    try:
        write(open_store(folder, checkpoint), checkpoint, ids(200))
    finally:
        os.umask(previous)
    [path] = files(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_mtime == NOW
    with safe_open(path, "np") as opened:
        assert opened.metadata()["fingerprint"] == checkpoint.fingerprint
        assert opened.get_tensor("tokens").tolist() == ids(200)
        keys = opened.get_tensor("0.1.0")
    expected = sample_kv(checkpoint.config, ids(200)).copy(200).arrays[2]
    assert np.array_equal(keys, np.array(expected)[..., :200, :])


def test_a_folder_that_others_could_read_is_closed_to_them(
    folder: Path, checkpoint: Checkpoint
) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    open_store(folder, checkpoint)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"cannot be stored in .*MAGISTRAL_MLX_CACHE"):
        open_store(tmp_path / "file" / "kv", checkpoint)


def test_other_peoples_files_in_the_folder_stay(folder: Path, checkpoint: Checkpoint) -> None:
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    open_store(folder, checkpoint, limit=1)
    assert files(folder) == [folder / "notes.txt"]


def test_stopping_leaves_nothing_behind(folder: Path, checkpoint: Checkpoint) -> None:
    store, asked = open_store(folder, checkpoint), iter([False, False, True])
    write(store, checkpoint, ids(150), stop=lambda: next(asked))
    assert files(folder) == []
    assert next(asked, None) is None


def test_a_short_match_and_a_small_share_are_not_worth_reading(
    folder: Path, checkpoint: Checkpoint
) -> None:
    store = open_store(folder, checkpoint)
    write(store, checkpoint, ids(1200))
    assert store.longest_prefix([*ids(LEAST_TOKENS_ON_DISK - 1), 1999], PLAIN) == 0
    assert store.longest_prefix([*ids(149), 1999], PLAIN) == 0
    assert store.longest_prefix([*ids(150), 1999], PLAIN) == 150
    assert store.load(ids(1200), PLAIN, most_bytes=1000) is None


def test_only_what_is_long_and_new_is_wanted(folder: Path, checkpoint: Checkpoint) -> None:
    store = open_store(folder, checkpoint)
    short, long = ids(LEAST_TOKENS_ON_DISK - 1), ids(LEAST_TOKENS_ON_DISK)
    assert not store.wants(short, sample_kv(checkpoint.config, short))
    assert store.wants(long, sample_kv(checkpoint.config, long))
    write(store, checkpoint, ids(150))
    assert not store.wants(long, sample_kv(checkpoint.config, long))
    small = open_store(folder, checkpoint, limit=1000)
    assert not small.wants(long, sample_kv(checkpoint.config, long))


def test_a_longer_file_takes_the_place_of_its_beginnings(
    folder: Path, checkpoint: Checkpoint
) -> None:
    store = open_store(folder, checkpoint)
    for length in (150, 200):
        write(store, checkpoint, ids(length))
    write(store, checkpoint, [*ids(150), 3, 4])
    assert sorted(len(read_kv_file(path).tokens) for path in files(folder)) == [152, 200]


def test_what_was_used_longest_ago_goes_first(folder: Path, checkpoint: Checkpoint) -> None:
    store = open_store(folder, checkpoint, limit=3 * FILE_BYTES)
    for seed in (1, 2, 3):
        write(store, checkpoint, ids(150, seed), used=NOW + seed)
    assert store.load(ids(150, 1), PLAIN) is not None
    write(store, checkpoint, ids(150, 4), used=NOW + 4)
    kept = {seed for seed in range(1, 5) if store.longest_prefix(ids(150, seed), PLAIN)}
    assert kept == {1, 3, 4}


def test_nothing_newer_is_removed_for_something_older(folder: Path, checkpoint: Checkpoint) -> None:
    store = open_store(folder, checkpoint, limit=2 * FILE_BYTES)
    for seed, used in ((1, NOW + 1), (2, NOW + 2), (3, NOW)):
        write(store, checkpoint, ids(150, seed), used=used)
    assert {seed for seed in (1, 2, 3) if store.longest_prefix(ids(150, seed), PLAIN)} == {1, 2}


def test_the_budget_is_one_for_all_models_and_kept_when_it_is_lowered(
    folder: Path, checkpoint: Checkpoint
) -> None:
    other = replace(checkpoint, fingerprint="f" * 64)
    limit = 2 * FILE_BYTES
    for number, each in enumerate([checkpoint, other, checkpoint, other]):
        write(open_store(folder, each, limit=limit), each, ids(150, number), used=NOW + number)
        assert sum(path.stat().st_size for path in files(folder)) <= limit
    assert {read_kv_file(path).kind.fingerprint for path in files(folder)} == {
        checkpoint.fingerprint,
        other.fingerprint,
    }
    open_store(folder, checkpoint, limit=FILE_BYTES)
    assert [read_kv_file(path).kind.fingerprint for path in files(folder)] == ["f" * 64]


actions = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "load", "remove", "restart"]),
        st.integers(0, 3),  # which tokens
        st.sampled_from([128, 150, 260]),  # how many
        st.integers(0, 1),  # which of two stores on one folder
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(actions)
def test_whatever_happens_loads_are_right_and_the_budget_is_kept(
    checkpoint: Checkpoint, actions: list[tuple[str, int, int, int]]
) -> None:
    limit = 4 * FILE_BYTES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = [open_store(folder, checkpoint, limit=limit) for _ in range(2)]
        for time_, (action, seed, length, which) in enumerate(actions):
            store, tokens = stores[which], ids(length, seed)
            cache = sample_kv(checkpoint.config, tokens)
            if action == "write" and store.wants(tokens, cache):
                store.write(tokens, cache, used=NOW + time_, stop=never)
            elif action == "load" and (loaded := store.load(tokens, PLAIN)) is not None:
                assert same_kv(checkpoint.config, loaded, cache.copy(loaded.length))
            elif action == "remove" and files(folder):
                files(folder)[seed % len(files(folder))].unlink()
            elif action == "restart":
                stores[which] = open_store(folder, checkpoint, limit=limit)
            assert sum(path.stat().st_size for path in files(folder)) <= limit


def test_what_another_store_writes_is_found_and_what_it_removes_is_a_miss(
    folder: Path, checkpoint: Checkpoint
) -> None:
    one, other = open_store(folder, checkpoint), open_store(folder, checkpoint)
    write(one, checkpoint, ids(150))
    assert other.longest_prefix(ids(150), PLAIN) == 150
    files(folder)[0].unlink()
    assert other.load(ids(150), PLAIN) is None


def test_a_file_that_vanishes_between_finding_and_reading_is_a_miss(
    folder: Path, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(folder, checkpoint)
    write(store, checkpoint, ids(150))
    assert store.longest_prefix(ids(150), PLAIN) == 150
    date = folder.stat()
    files(folder)[0].unlink()
    os.utime(folder, ns=(date.st_atime_ns, date.st_mtime_ns))
    assert store.longest_prefix(ids(150), PLAIN) == 150
    assert store.load(ids(150), PLAIN) is None
    assert store.longest_prefix(ids(150), PLAIN) == 0
    assert warnings(caplog) == []


def test_the_writer_thread_writes_what_was_evicted(folder: Path, checkpoint: Checkpoint) -> None:
    store = open_store(folder, checkpoint)
    for seed in range(4):
        cache = sample_kv(checkpoint.config, ids(150, seed))
        store.write_later(ids(150, seed), cache, used=NOW)
        del cache
    store.close(seconds=30)
    for seed in range(4):
        loaded = store.load(ids(150, seed), PLAIN)
        assert loaded is not None
        assert same_kv(checkpoint.config, loaded, sample_kv(checkpoint.config, ids(150, seed)))


def test_what_waits_for_the_writer_thread_is_bounded(
    folder: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = sample_kv(checkpoint.config, ids(150))
    monkeypatch.setattr(kv_store, "COPIED_BYTES", 2 * cache.nbytes)
    store = open_store(folder, checkpoint)
    store._copied = cache.nbytes + 1
    store.write_later(ids(150), cache, used=NOW)
    assert store._writer is None
    store._copied = cache.nbytes
    store.write_later(ids(150), cache, used=NOW)
    store.close(seconds=30)
    assert len(files(folder)) == 1
    assert store._copied == cache.nbytes


def test_opening_reads_headers_and_not_the_kv(folder: Path, checkpoint: Checkpoint) -> None:
    write(open_store(folder, checkpoint), checkpoint, ids(1000))
    [path] = files(folder)
    data = path.read_bytes()
    path.write_bytes(data[:6000] + bytes(len(data) - 6000))  # a header and tokens, and no KV
    began = time.monotonic()
    assert open_store(folder, checkpoint).longest_prefix(ids(1000), PLAIN) == 1000
    assert time.monotonic() - began < 1
    assert json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["tokens"]
