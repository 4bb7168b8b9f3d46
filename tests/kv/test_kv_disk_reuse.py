"""KV from disk changes no token, and spares the tokens it should: through the engine."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.device import DeviceOptions
from magistral_mlx.engine import loop as engine_module
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.events import Event, Failed, Finished
from magistral_mlx.kv import prefix_cache
from magistral_mlx.kv.disk.file import KVFile, read_kv_file
from magistral_mlx.kv.disk.store import KVStore
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import HEAD_DIM, KV_HEADS, LAYERS, VOCAB

GREEDY = SamplingParams(temperature=0)
TOKEN_BYTES = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kv"


@contextmanager
def running(
    checkpoint: Checkpoint,
    folder: Path | None,
    *,
    memory: int = 10**9,
    dtype: mx.Dtype = mx.float32,
) -> Iterator[Engine]:
    """An engine of its own; without a folder it reuses nothing."""
    store = None
    if folder is not None:
        store = KVStore(folder, limit=10**9, checkpoint=checkpoint, dtype=dtype)
    engine = Engine(
        checkpoint,
        Tokenizer.open(checkpoint.folder),
        window=2000,
        device=DeviceOptions(dtype=dtype),
        prefill_tokens=64,
        prefix_bytes=memory if folder else 0,
        kv_store=store,
    )
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint) -> Iterator[Engine]:
    with running(checkpoint, None) as engine:
        yield engine


def prompt(length: int, *, seed: int = 0) -> tuple[int, ...]:
    return tuple(1000 + (7 * i + 13 * seed + i * i) % (VOCAB - 1000) for i in range(length))


def ask(engine: Engine, tokens: tuple[int, ...], *, count: int = 12) -> tuple[tuple[int, ...], int]:
    """Greedy tokens, and how many tokens of the prompt were cached."""
    events = SimpleQueue[Event]()
    sequence = engine.submit_to(
        Request(tokens, options=OutputOptions(sampling=GREEDY, max_tokens=count)), events.put
    )
    while not isinstance(event := events.get(timeout=60), Finished):
        assert not isinstance(event, Failed)
    return tuple(sequence.ids[len(tokens) :]), event.usage.cached_tokens


def stored(folder: Path) -> list[KVFile]:
    return [read_kv_file(path) for path in sorted(folder.glob("*.safetensors"))]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_a_restart_forgets_nothing_and_changes_no_token(
    checkpoint: Checkpoint, folder: Path, dtype: mx.Dtype
) -> None:
    with running(checkpoint, folder, dtype=dtype) as engine:
        first, cached = ask(engine, prompt(300))
        assert cached == 0
    assert [len(file.tokens) for file in stored(folder)] == [311]
    longer = (*prompt(300), *first, *prompt(40, seed=3))
    with running(checkpoint, None, dtype=dtype) as engine:
        expected = ask(engine, longer)[0]
    with running(checkpoint, folder, dtype=dtype) as engine:
        assert ask(engine, longer) == (expected, 311)
        # The next one finds in memory what is longer there.
        assert ask(engine, longer)[1] == 351
    assert [len(file.tokens) for file in stored(folder)] == [363]


def test_the_last_token_of_a_prompt_is_left_to_run(checkpoint: Checkpoint, folder: Path) -> None:
    with running(checkpoint, folder) as engine:
        first, _ = ask(engine, prompt(300))
    with running(checkpoint, folder) as engine:
        assert ask(engine, prompt(300)) == (first, 299)


def test_a_branch_takes_what_it_shares(checkpoint: Checkpoint, folder: Path, plain: Engine) -> None:
    with running(checkpoint, folder) as engine:
        ask(engine, prompt(300))
    branch = (*prompt(200), *prompt(60, seed=9))
    with running(checkpoint, folder) as engine:
        assert ask(engine, branch) == (ask(plain, branch)[0], 200)
    # Both are kept, for each has tokens that the other has not.
    assert sorted(len(file.tokens) for file in stored(folder)) == [271, 311]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_file_changes_no_token_and_counts_as_none(
    checkpoint: Checkpoint, plain: Engine, place: int, flip: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(checkpoint, folder) as engine:
            ask(engine, prompt(200))
        [file] = stored(folder)
        data = bytearray(file.path.read_bytes())
        data[place % len(data)] ^= flip
        with running(checkpoint, folder) as engine:
            file.path.write_bytes(data)
            assert ask(engine, prompt(200)) == (ask(plain, prompt(200))[0], 0)
        assert ask(plain, prompt(200))[0]


def test_what_memory_has_no_room_for_is_written_while_others_run(
    checkpoint: Checkpoint, folder: Path, plain: Engine
) -> None:
    with running(checkpoint, folder, memory=2 * 512 * TOKEN_BYTES) as engine:
        first = [ask(engine, prompt(400, seed=seed)) for seed in range(4)]
        assert engine._loop.prefixes.nbytes <= 2 * 512 * TOKEN_BYTES
        until(lambda: len(stored(folder)) == 2)
        again = [ask(engine, prompt(400, seed=seed)) for seed in range(4)]
    assert [tokens for tokens, _ in again] == [tokens for tokens, _ in first]
    assert [cached for _, cached in again] == [399] * 4
    assert len(stored(folder)) == 4


def test_rest_writes_and_a_restart_after_a_kill_finds_it(
    checkpoint: Checkpoint, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "REST_SECONDS", 0.05)
    with running(checkpoint, folder) as engine:
        ask(engine, prompt(300))
        until(lambda: len(stored(folder)) == 1)
        with running(checkpoint, folder) as other:  # while the first one is still open
            assert ask(other, prompt(300))[1] == 299


def test_without_rest_nothing_is_written(checkpoint: Checkpoint, folder: Path) -> None:
    with running(checkpoint, folder) as engine:
        for seed in range(3):
            ask(engine, prompt(300, seed=seed))
        assert stored(folder) == []


def test_short_prompts_are_not_written(checkpoint: Checkpoint, folder: Path) -> None:
    with running(checkpoint, folder) as engine:
        ask(engine, prompt(prefix_cache.LEAST_TOKENS_ON_DISK - 20), count=8)
    assert stored(folder) == []


def test_closing_in_the_middle_of_an_answer_keeps_its_prompt(
    checkpoint: Checkpoint, folder: Path
) -> None:
    with running(checkpoint, folder) as engine:
        events = SimpleQueue[Event]()
        engine.submit_to(Request(prompt(600), options=OutputOptions(sampling=GREEDY)), events.put)
        for _ in range(8):
            events.get(timeout=60)
    [file] = stored(folder)
    assert file.tokens[:500] == prompt(600)[: len(file.tokens)][:500]


def test_closing_takes_no_longer_than_it_may(
    checkpoint: Checkpoint, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_cache, "CLOSING_SECONDS", 0.0)
    with running(checkpoint, folder) as engine:
        ask(engine, prompt(300))
    assert list(folder.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(prefix_cache, "CLOSING_BYTES", 512 * TOKEN_BYTES)
    with running(checkpoint, folder) as engine:
        ask(engine, prompt(300))
        ask(engine, prompt(600, seed=1))
    assert [len(file.tokens) for file in stored(folder)] == [311]


def test_an_idle_prefill_is_kept_and_taken_up_from_disk(
    checkpoint: Checkpoint, folder: Path, plain: Engine
) -> None:
    with running(checkpoint, folder) as engine:
        engine.prefill_when_idle(prompt(300))
        until(lambda: engine._loop.prefixes.nbytes > 0)
    with running(checkpoint, folder) as engine:
        engine.prefill_when_idle(prompt(330))
        until(lambda: engine._loop.prefixes.longest_prefix(prompt(331)) == 330)
        question = (*prompt(330), *prompt(9, seed=4))
        assert ask(engine, question) == (ask(plain, question)[0], 330)


turns = st.lists(
    st.tuples(
        st.integers(0, 3),  # which earlier output to go on from
        st.integers(0, 60),  # tokens of it to take back
        st.integers(1, 40),  # tokens to add
        st.integers(0, 2),  # which tokens
        st.booleans(),  # whether to open the engine anew before
    ),
    min_size=2,
    max_size=6,
)


@settings(max_examples=8, deadline=None)
@given(turns)
def test_restarts_edits_and_branches_change_no_token(
    checkpoint: Checkpoint, plain: Engine, turns: list[tuple[int, int, int, int, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        histories = [prompt(180)]
        opened = running(checkpoint, Path(name))
        engine = opened.__enter__()
        for which, back, more, seed, restart in turns:
            if restart:
                opened.__exit__(None, None, None)
                opened = running(checkpoint, Path(name))
                engine = opened.__enter__()
            base = histories[which % len(histories)]
            tokens = (*base[: max(130, len(base) - back)], *prompt(more, seed=seed))
            output, cached = ask(engine, tokens, count=6)
            assert output == ask(plain, tokens, count=6)[0]
            assert 0 <= cached < len(tokens)
            assert cached >= 130 or len(histories) == 1
            histories.append((*tokens, *output))
        opened.__exit__(None, None, None)
