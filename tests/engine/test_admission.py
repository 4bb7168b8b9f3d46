"""Many requests in little memory: who gets a place, who waits, who is paused; nothing is lost."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue

import pytest

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.kv_budget import KVBudget, kv_budget
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.engine.step_costs import StepCosts
from magistral_mlx.errors import QueueFullError, RequestError
from magistral_mlx.events import Event, Failed, Finished, PrefillProgress
from magistral_mlx.kv.cache import BLOCK, KVPrecision, kv_precision
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.tokenizer import Tokenizer
from tests.kv.kv_samples import sample_kv
from tests.sample_checkpoints import HEAD_DIM, KV_HEADS, LAYERS, VOCAB

BLOCK_BYTES = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4 * BLOCK
SAMPLING = SamplingParams(temperature=1, seed=3)
PLAIN = KVPrecision()


def open_engine(checkpoint: Checkpoint, *, blocks: int | None = None, waiting: int = 99) -> Engine:
    return Engine(
        checkpoint,
        Tokenizer.open(checkpoint.folder),
        window=2000,
        prefill_tokens=64,
        max_waiting=waiting,
        kv_bytes=None if blocks is None else blocks * BLOCK_BYTES,
        prefix_bytes=10**9,
    )


@pytest.fixture(scope="module")
def roomy(checkpoint: Checkpoint) -> Iterator[Engine]:
    engine = open_engine(checkpoint)
    yield engine
    engine.close()


def prompt(length: int, *, seed: int = 0) -> tuple[int, ...]:
    return tuple(1000 + (7 * i + 13 * seed + i * i) % (VOCAB - 1000) for i in range(length))


class Asked:
    """A request under way, and what came of it."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.sequence: Sequence = engine.submit_to(request, self.events.put)
        self.seen: list[Event] = []

    def wait(self) -> Finished:
        while not isinstance(event := self.events.get(timeout=60), Finished | Failed):
            self.seen.append(event)
        assert isinstance(event, Finished), event
        return event

    @property
    def output(self) -> list[int]:
        return self.sequence.ids[len(self.sequence.request.prompt) :]


def requests(count: int, tokens: int) -> list[Request]:
    return [
        Request(
            prompt(40, seed=i),
            options=OutputOptions(sampling=SAMPLING, max_tokens=tokens, stop_repetition=False),
        )
        for i in range(count)
    ]


def test_sequences_that_outgrow_the_memory_are_paused_and_lose_nothing(
    checkpoint: Checkpoint, roomy: Engine
) -> None:
    tight = open_engine(checkpoint, blocks=4)
    try:
        asked = [Asked(tight, request) for request in requests(4, 300)]
        begun_and_waiting = 0
        while not all(one.sequence.finished for one in asked):
            waiting = tight._loop.scheduler.waiting
            begun_and_waiting = max(begun_and_waiting, sum(s.has_begun for s in waiting))
            time.sleep(0.001)
        ends = [one.wait() for one in asked]
        assert begun_and_waiting > 0
        assert {end.reason for end in ends} == {"length"}
        plain = [Asked(roomy, request) for request in requests(4, 300)]
        for one in plain:
            one.wait()
        assert [one.output for one in asked] == [one.output for one in plain]
        assert ends[0].usage.prompt_tokens == 40
    finally:
        tight.close()


def test_kv_never_exceeds_its_budget(checkpoint: Checkpoint) -> None:
    tight = open_engine(checkpoint, blocks=4)
    try:
        asked = [Asked(tight, request) for request in requests(6, 280)]
        most = 0
        while not all(one.sequence.finished for one in asked):
            caches = [s.cache for s in tight._loop.scheduler.unfinished()]
            running = sum(cache.nbytes for cache in caches if cache is not None)
            most = max(most, running + tight._loop.prefixes.nbytes)
            time.sleep(0.001)
        assert 2 * BLOCK_BYTES <= most <= 4 * BLOCK_BYTES
    finally:
        tight.close()


def test_a_prompt_that_can_never_fit_is_refused_with_numbers(checkpoint: Checkpoint) -> None:
    tight = open_engine(checkpoint, blocks=2)
    try:
        assert tight.window == 2 * BLOCK
        with pytest.raises(RequestError, match=r"600 tokens and the window holds 512"):
            tight.submit(Request(prompt(600)))
    finally:
        tight.close()


def test_more_requests_than_may_wait_are_refused(checkpoint: Checkpoint) -> None:
    engine = open_engine(checkpoint, waiting=3)
    try:
        asked: list[Asked] = []
        with pytest.raises(QueueFullError, match="3 requests are waiting"):
            asked.extend(Asked(engine, request) for request in requests(40, 500))
        assert len(asked) >= 3
        for one in asked:
            engine.cancel(one.sequence)
            one.wait()
    finally:
        engine.close()


def test_interactive_requests_go_before_batch_ones(checkpoint: Checkpoint) -> None:
    engine = open_engine(checkpoint)
    try:
        batch = [
            Asked(
                engine,
                Request(
                    prompt(30, seed=i), options=OutputOptions(priority="batch", max_tokens=150)
                ),
            )
            for i in range(24)
        ]
        urgent = Asked(engine, Request(prompt(30, seed=99), options=OutputOptions(max_tokens=2)))
        urgent.wait()
        assert sum(not one.sequence.has_begun for one in batch) >= 8
        for one in batch:
            engine.cancel(one.sequence)
    finally:
        engine.close()


def test_a_short_prompt_does_not_wait_behind_a_long_one(roomy: Engine) -> None:
    long = Asked(
        roomy,
        Request(prompt(1900, seed=50), options=OutputOptions(sampling=SAMPLING, max_tokens=2)),
    )
    short = Asked(
        roomy, Request(prompt(60, seed=51), options=OutputOptions(sampling=SAMPLING, max_tokens=2))
    )
    short.wait()
    assert not long.sequence.finished
    long.wait()


def test_time_is_up_for_running_and_for_waiting_requests(checkpoint: Checkpoint) -> None:
    engine = open_engine(checkpoint)
    try:
        asked = [
            Asked(
                engine,
                Request(
                    prompt(20, seed=i), options=OutputOptions(timeout=0.3, stop_repetition=False)
                ),
            )
            for i in range(20)
        ]
        ends = [one.wait() for one in asked]
        assert {end.reason for end in ends} <= {"timeout", "stop"}
        assert "timeout" in {end.reason for end in ends}
        assert all(end.timings.total_seconds < 5 for end in ends)
    finally:
        engine.close()


def test_samples_of_one_prompt_prefill_it_once(roomy: Engine) -> None:
    samples = [
        Request(
            prompt(700, seed=77),
            options=OutputOptions(sampling=SamplingParams(seed=seed), max_tokens=6),
        )
        for seed in range(4)
    ]
    asked = [Asked(roomy, request) for request in samples]
    ends = [one.wait() for one in asked]
    prefilled = [end.usage.prompt_tokens - end.usage.cached_tokens for end in ends]
    assert sum(prefilled) == 700 + 3
    alone = []
    for request in samples:
        one = Asked(roomy, request)
        one.wait()
        alone.append(one.output)
    assert [one.output for one in asked] == alone


def test_a_receiver_that_fails_ends_its_own_request_alone(
    roomy: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(event: Event) -> None:
        if not isinstance(event, PrefillProgress):
            raise ValueError("the client is gone")

    broken = roomy.submit_to(
        Request(prompt(20, seed=5), options=OutputOptions(sampling=SAMPLING)), failing
    )
    other = Asked(
        roomy, Request(prompt(20, seed=6), options=OutputOptions(sampling=SAMPLING, max_tokens=30))
    )
    assert other.wait().reason in {"length", "stop"}
    assert broken.finished
    assert "the client is gone" in caplog.text


def test_the_budget_counts_in_whole_blocks() -> None:
    budget = KVBudget({None: 10}, limit=10 * (3 * BLOCK + 7))
    assert budget.longest_window(PLAIN) == 3 * BLOCK
    assert budget.needs(1, PLAIN) == 10 * BLOCK
    assert budget.holds([(BLOCK, PLAIN), (2 * BLOCK, PLAIN)])
    assert not budget.holds([(BLOCK + 1, PLAIN), (2 * BLOCK, PLAIN)])
    assert budget.left([(1, PLAIN)]) == 10 * (2 * BLOCK + 7)
    free = KVBudget({None: 10}, limit=None)
    assert free.longest_window(PLAIN) is None
    assert free.left([(10**9, PLAIN)]) is None
    assert free.holds([(10**9, PLAIN)])


@pytest.mark.parametrize("precision", [PLAIN, kv_precision(8), kv_precision(4, start=300)])
@pytest.mark.parametrize("tokens", [1, 255, 256, 257, 300, 301, 557, 900])
def test_the_budget_counts_what_a_cache_of_any_precision_takes(
    checkpoint: Checkpoint, precision: KVPrecision, tokens: int
) -> None:
    budget = kv_budget(checkpoint.config, "float32", limit=None)
    cache = sample_kv(checkpoint.config, prompt(tokens), precision=precision)
    assert cache.nbytes == budget.needs(tokens, precision)
    longest = replace(budget, limit=cache.nbytes).longest_window(precision)
    assert longest is not None
    assert longest >= tokens
    assert budget.needs(longest, precision) == cache.nbytes
    assert budget.needs(longest + 1, precision) > cache.nbytes


def test_a_prompt_rides_along_in_chunks_that_the_running_answer_can_bear(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    paced = Engine(
        checkpoint, Tokenizer.open(checkpoint.folder), window=2000, costs_folder=tmp_path
    )
    try:
        paced._loop.scheduler.costs = StepCosts((1, 512), (1.0, 6.11))
        running = Asked(
            paced,
            Request(prompt(5), options=OutputOptions(sampling=SAMPLING, stop_repetition=False)),
        )
        while not running.sequence.output_length:
            time.sleep(0.001)
        joining = Asked(
            paced,
            Request(prompt(600, seed=9), options=OutputOptions(sampling=SAMPLING, max_tokens=1)),
        )
        joining.wait()
        paced.cancel(running.sequence)
        done = [event.done for event in joining.seen if isinstance(event, PrefillProgress)]
        chunks = {after - before for before, after in pairwise([0, *done[:-1]])}
        assert chunks == {StepCosts((1, 512), (1.0, 6.11)).chunk([6], behind=0, most=512)}
        alone = Asked(
            paced,
            Request(prompt(600, seed=10), options=OutputOptions(sampling=SAMPLING, max_tokens=1)),
        )
        running.wait()
        alone.wait()
    finally:
        paced.close()
