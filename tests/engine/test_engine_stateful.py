"""Whatever happens to requests, in whatever order: each ends once, with the tokens it gets alone.

Hypothesis makes up the order: requests, cancels, receivers that fail, idle prompts, steps that
fail, time that passes. The engine's thread takes one turn at a time, when it is told to, and the
clock stands still until it is moved, so that a run can be repeated.
"""

import gc
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import mlx.core as mx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import magistral_mlx.engine.loop
import magistral_mlx.engine.status
import magistral_mlx.ranks.team
from magistral_mlx.checkpoint.folder import Checkpoint, open_checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.loop import EngineLoop
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.scheduler import ScheduledSegment
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.engine.step import Step, dispatch, settle
from magistral_mlx.errors import EngineError
from magistral_mlx.events import AnswerText, Event, Failed, Finished, PrefillProgress, ReasoningText
from magistral_mlx.kv.cache import BLOCK, KVCache, kv_precision
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.options import OutputOptions, Priority
from magistral_mlx.sampling.sampler import Sampler, SamplingParams
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import (
    HEAD_DIM,
    KV_HEADS,
    LAYERS,
    VOCAB,
    random_weights,
    write_hf,
)
from tests.tiny_engine import with_options

BLOCK_BYTES = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4 * BLOCK
WINDOW = 3 * BLOCK
ALONE = "MAGISTRAL_MLX_TEST_ALONE"
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60
"""Seconds after which a turn or an end counts as one that never comes."""

SAMPLINGS = (
    SamplingParams(temperature=0),
    SamplingParams(temperature=1, top_k=40, seed=5),
    # Flat enough that the candidates seldom decide: tokens are drawn again in full.
    SamplingParams(temperature=3, top_p=0.99, seed=11),
    # Drawn only when all tokens before are known.
    SamplingParams(temperature=3, seed=7, frequency_penalty=1, repetition_penalty=1.3),
)


PRIORITIES: tuple[Priority, ...] = ("interactive", "interactive", "interactive", "batch", "idle")


class Clock:
    """Stands in for the module `time`, and stands still."""

    def __init__(self) -> None:
        self.now = 1.0

    def perf_counter(self) -> float:
        return self.now


class Faults:
    """Makes the next step fail at a place, and spoils the KV that the step had to do with.

    Not in the thread of the engine that says what each request gives alone: when its last event is
    out, its last step still is to be settled.
    """

    PLACES = ("before dispatch", "after dispatch", "before settle", "after settle")

    def __init__(self, spared: threading.Thread) -> None:
        self.spared = spared
        self.place: str | None = None
        self.in_flight: dict[int, list[KVCache]] = {}

    def dispatch(
        self,
        decoder: Decoder,
        sampler: Sampler,
        segments: list[ScheduledSegment],
        before: Step | None,
    ) -> Step:
        if threading.current_thread() is self.spared:
            return dispatch(decoder, sampler, segments, before)
        self._strike("before dispatch", [])
        step = dispatch(decoder, sampler, segments, before)
        caches = [
            segment.sequence.cache for segment in segments if segment.sequence.cache is not None
        ]
        self.in_flight[id(step)] = caches
        self._strike("after dispatch", caches)
        return step

    def settle(self, step: Step, *, after: Step | None) -> None:
        if threading.current_thread() is self.spared:
            settle(step, after=after)
            return
        caches = self.in_flight.pop(id(step))
        self._strike("before settle", caches)
        settle(step, after=after)
        self._strike("after settle", caches)

    def calm(self) -> bool:
        """Plan no failure any more; whether the planned one has come."""
        struck, self.place = self.place is None, None
        return struck

    def _strike(self, place: str, caches: list[KVCache]) -> None:
        if self.place != place:
            return
        self.place = None
        self.in_flight.clear()
        for cache in caches:
            for array in cache.arrays:
                array[...] = mx.nan
        raise RuntimeError(f"injected {place}")


class Gate:
    """Holds a thread back until the test lets it take a turn."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._turns = 0
        self._open = False
        self._here = False
        self.idle = False

    def arrive(self, *, idle: bool) -> None:
        """The thread waits here before each turn; idle: it would wait for a message next."""
        with self._changed:
            self._here, self.idle = True, idle
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._turns or self._open, PATIENCE)
            self._turns = 0
            self._here = False

    def wait_for_arrival(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._here and not self._turns, PATIENCE)

    def let_pass(self) -> None:
        with self._changed:
            self._turns = 1
            self._changed.notify_all()

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify_all()


class SteppedLoop(EngineLoop):
    """Waits before each turn until it is let pass."""

    def _read_inbox(self, *, block: bool) -> bool:
        SteppedEngine.gate.arrive(idle=block and not self.scheduler.unfinished())
        return super()._read_inbox(block=block)


class SteppedEngine(Engine):
    """An engine whose thread takes a turn (messages, then a step) only when it is told to."""

    loop_type = SteppedLoop
    gate: Gate

    def take_turns(self, count: int) -> None:
        """Let the thread take turns, and wait for it; fewer when nothing is left to do."""
        for _ in range(count):
            self.gate.wait_for_arrival()
            if self.gate.idle and not len(self._inbox):
                return
            self.gate.let_pass()
        self.gate.wait_for_arrival()


class Asked:
    """A request under way, and what came of it."""

    def __init__(self, engine: Engine, request: Request, *, fail_at: int | None = None) -> None:
        self.request = request
        self.fail_at = fail_at
        self.events: list[Event] = []
        self.ended = threading.Event()
        self.cancelled = False
        self.sequence = engine.submit_to(request, self._receive)

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(self.sequence.ids[len(self.request.prompt) :])

    @property
    def end(self) -> Finished | Failed:
        assert isinstance(self.events[-1], Finished | Failed)
        return self.events[-1]

    @property
    def receiver_has_failed(self) -> bool:
        return self.fail_at is not None and len(self.events) >= self.fail_at

    def text(self, kind: type[AnswerText | ReasoningText]) -> str:
        return "".join(event.text for event in self.events if isinstance(event, kind))

    def _receive(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Finished | Failed) or self.receiver_has_failed:
            self.ended.set()
        if self.receiver_has_failed:
            raise ValueError("the client is gone")


@dataclass
class World:
    """What all examples share: a model, and what each request gives alone."""

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    plain: Engine
    clock: Clock
    faults: Faults
    requests: list[Request] = field(default_factory=list)
    known: dict[Request, Asked] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    """What has happened in the examples, for a test that proves nothing without it."""

    @property
    def growing(self) -> list[Request]:
        """Requests that come to need another block: for want of it others are paused."""
        return [r for r in self.requests if len(r.prompt) <= BLOCK < len(r.prompt) + self.made(r)]

    def made(self, request: Request) -> int:
        """Tokens that a request makes alone."""
        return len(self.alone(request).tokens)

    def alone(self, request: Request) -> Asked:
        request = with_options(request, timeout=None, priority="interactive")
        if request not in self.known:
            asked = Asked(self.plain, request)
            assert asked.ended.wait(PATIENCE)
            assert until(lambda: asked.sequence.cache is None)  # its memory is counted too
            self.known[request] = asked
        return self.known[request]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("tiny")) as world:
        yield world


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    weights = random_weights()
    ending = weights["lm_head.weight"]
    ending[2] = 6 * ending[2]  # so that outputs end by themselves now and then
    checkpoint = open_checkpoint(write_hf(folder / "tiny", weights))
    del weights, ending
    tokenizer = Tokenizer.open(checkpoint.folder)
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(magistral_mlx.engine.status, "time", clock)
        plain = Engine(checkpoint, tokenizer, window=WINDOW, max_running=1)
        faults = Faults(spared=plain._thread)
        world = World(checkpoint, tokenizer, plain, clock, faults)
        world.requests = some_requests(world)
        patch.setattr(magistral_mlx.engine.loop, "dispatch", faults.dispatch)
        patch.setattr(magistral_mlx.engine.loop, "settle", faults.settle)
        # Log records of failures would keep frames alive, and with them arrays.
        logging.disable(logging.CRITICAL)
        # MLX gives out freed buffers that are a little too large again: bytes would not add up.
        cached = mx.set_cache_limit(0)
        yield world
        mx.set_cache_limit(cached)
        logging.disable(logging.NOTSET)
        plain.close()


def some_requests(world: World) -> list[Request]:
    """Prompts that share beginnings, near the ends of blocks, and some that go on from others."""
    draw = random.Random(6)
    requests = [a_request(draw) for _ in range(30)]
    for request in requests[:10]:
        output = world.alone(request).tokens
        prompt = (*request.prompt, *output[: draw.randint(0, len(output))], *tokens(7, 3))
        if len(prompt) < WINDOW:
            requests.append(replace(a_request(draw), prompt=prompt))
    return requests


def a_request(draw: random.Random) -> Request:
    shared, own = draw.choice((0, 30, 80, *3 * [244])), draw.choice((2, 6, 9))
    reasoning = draw.random() < 0.4
    return Request(
        (*tokens(shared, draw.randint(0, 1)), *tokens(own, 4 + draw.randint(0, 2))),
        state="reasoning" if reasoning else "auto",
        options=OutputOptions(
            sampling=draw.choice(SAMPLINGS),
            max_tokens=draw.choice((1, 8, 16, 24)),
            thinking_budget=draw.choice((0, 3, 12, None)) if reasoning else None,
            answer_reserve=draw.choice((0, 2_048)),
            stop=draw.choice(((), (), ("e", "a"))),
            min_tokens=draw.choice((0, 1)),
            ignore_eos=draw.random() < 0.3,
            logprobs=draw.choice((None, None, 2)),
            # Most as computed: caches that are small are seldom paused.
            kv_precision=draw.choice((*6 * [None], kv_precision(8), kv_precision(4, start=64))),
        ),
    )


def tokens(length: int, seed: int) -> tuple[int, ...]:
    return tuple(1000 + (7 * i + 131 * seed + i * i) % (VOCAB - 1000) for i in range(length))


class EngineMachine(RuleBasedStateMachine):
    """One engine, from its opening to its closing."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.asked: list[Asked] = []
        self.failures = self.most_failures = 0

    @initialize(
        blocks=st.sampled_from((3, 3, 4, 5, None)),
        prefix_blocks=st.sampled_from((0, 2, 100)),
        max_running=st.sampled_from((2, 4, 8)),
        prefill_tokens=st.sampled_from((9, 64, 300)),
        most_failures=st.sampled_from((0, 2, 4)),
        seed=st.integers(0, 2**32),
    )
    def open(
        self,
        blocks: int | None,
        prefix_blocks: int,
        max_running: int,
        prefill_tokens: int,
        most_failures: int,
        seed: int,
    ) -> None:
        self.most_failures = most_failures
        self.memory_before = mx.get_active_memory()
        self.kv_bytes = None if blocks is None else blocks * BLOCK_BYTES
        self.prefix_bytes = prefix_blocks * BLOCK_BYTES
        SteppedEngine.gate = Gate()
        self.engine = SteppedEngine(
            self.world.checkpoint,
            self.world.tokenizer,
            window=WINDOW,
            max_running=max_running,
            prefill_tokens=prefill_tokens,
            kv_bytes=self.kv_bytes,
            prefix_bytes=self.prefix_bytes,
        )
        self.memory = mx.get_active_memory()
        self.submit_some(8, seed)

    @rule(count=st.integers(2, 6), seed=st.integers(0, 2**32))
    def submit(self, count: int, seed: int) -> None:
        self.submit_some(count, seed)

    def submit_some(self, count: int, seed: int) -> None:
        """A seed, because hypothesis's own examples of so many choices are mostly small ones."""
        draw = random.Random(seed)
        for _ in range(count):
            request = draw.choice(
                self.world.growing if draw.random() < 0.5 else self.world.requests
            )
            self.world.alone(request)
            request = with_options(
                request,
                priority=draw.choice(PRIORITIES),
                timeout=draw.choice((*6 * [None], 0, 8)),
            )
            fail_at = draw.choice((*20 * [None], 1, 2, 4))
            self.asked.append(Asked(self.engine, request, fail_at=fail_at))

    @rule(which=st.integers(0, 10_000), length=st.integers(1, 260))
    def prefill_when_idle(self, which: int, length: int) -> None:
        prompt = self.world.requests[which % len(self.world.requests)].prompt
        self.engine.prefill_when_idle(prompt[:length])

    @precondition(lambda self: any(not asked.sequence.finished for asked in self.asked))
    @rule(which=st.integers(0, 10_000), at_once=st.booleans())
    def cancel(self, which: int, at_once: bool) -> None:
        open = [asked for asked in self.asked if not asked.sequence.finished]
        asked = open[which % len(open)]
        asked.cancelled = True
        self.engine.cancel(asked.sequence)
        if at_once:
            self.engine.take_turns(1)
            assert asked.sequence.finished

    @rule(count=st.sampled_from((1, 2, 3, 7, 20)))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.engine.take_turns(1)
            self.look()

    @rule(count=st.integers(20, 60))
    def step_on(self, count: int) -> None:
        self.step(count)

    @rule()
    def wait(self) -> None:
        self.world.clock.now += 3

    @precondition(lambda self: self.failures < self.most_failures)
    @rule(place=st.sampled_from(Faults.PLACES))
    def fail(self, place: str) -> None:
        self.world.faults.place = place
        self.engine.take_turns(2)
        if self.world.faults.calm():
            self.failures += 1
            self.world.seen["step failed"] += 1

    @invariant()
    def look(self) -> None:
        """The engine's thread waits at its gate, so nothing changes meanwhile."""
        if not hasattr(self, "engine"):
            return
        for asked in self.asked:
            self.assert_tokens_are_right_so_far(asked)
            self.assert_nothing_follows_the_end(asked)
        assert self.engine._loop.prefixes.nbytes <= self.prefix_bytes
        waiting = self.engine._loop.scheduler.waiting
        self.world.seen["paused"] += any(s.has_begun for s in waiting)
        self.world.seen["waited"] += any(not s.has_begun for s in waiting)
        assert all(s.cache is None for s in waiting)
        assert self.kv_bytes is None or bytes_of_kv(self.engine) <= self.kv_bytes

    def assert_tokens_are_right_so_far(self, asked: Asked) -> None:
        expected = self.world.alone(asked.request).tokens
        assert asked.tokens == expected[: len(asked.tokens)]
        assert asked.request.options.priority != "idle" or not asked.tokens

    def assert_nothing_follows_the_end(self, asked: Asked) -> None:
        ends = [isinstance(event, Finished | Failed) for event in asked.events]
        assert not any(ends[:-1])
        assert asked.fail_at is None or len(asked.events) <= asked.fail_at

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        self.engine.gate.open()
        try:
            for asked in self.asked:
                assert asked.ended.wait(PATIENCE), asked.request
            # Only then has the thread seen the last message, and put everything away.
            last = Asked(self.engine, Request(tokens(3, 9), options=OutputOptions(max_tokens=1)))
            assert last.ended.wait(PATIENCE)
            for asked in self.asked:
                self.assert_ended_well(asked)
            assert self.engine._thread.is_alive()
            self.assert_no_kv_has_leaked()
        finally:
            self.engine.close()
        assert until(lambda: mx.get_active_memory() == self.memory_before)

    def assert_ended_well(self, asked: Asked) -> None:
        self.assert_nothing_follows_the_end(asked)
        self.assert_tokens_are_right_so_far(asked)
        assert asked.sequence.finished
        assert asked.sequence.cache is None
        if asked.receiver_has_failed:
            self.world.seen["receiver failed"] += 1
        elif isinstance(asked.end, Failed):
            assert self.failures
        else:
            self.assert_reason_is_right(asked, asked.end)
            self.assert_counts_add_up(asked, asked.end)

    def assert_reason_is_right(self, asked: Asked, end: Finished) -> None:
        self.world.seen[end.reason] += 1
        alone = self.world.alone(asked.request)
        assert isinstance(alone.end, Finished)
        if end.reason == "cancelled":
            # Of many idle prompts the oldest are forgotten.
            assert asked.cancelled or asked.request.options.priority == "idle"
        elif end.reason == "timeout":
            assert asked.request.options.timeout is not None
        elif asked.request.options.priority == "idle":
            assert end.reason == "length"
        else:
            assert asked.tokens == alone.tokens
            assert end.reason == alone.end.reason
            assert end.reasoning_closed_by_force == alone.end.reasoning_closed_by_force
            assert end.usage.reasoning_tokens == alone.end.usage.reasoning_tokens
            assert asked.text(ReasoningText) == alone.text(ReasoningText)
            assert asked.text(AnswerText) == alone.text(AnswerText)
            self.world.seen["closed by force"] += end.reasoning_closed_by_force

    def assert_counts_add_up(self, asked: Asked, end: Finished) -> None:
        usage, prompt = end.usage, len(asked.request.prompt)
        assert usage.prompt_tokens == prompt
        assert usage.completion_tokens == len(asked.tokens)
        assert 0 <= usage.reasoning_tokens <= usage.completion_tokens
        assert 0 <= usage.cached_tokens <= prompt - 1
        progress = [event.done for event in asked.events if isinstance(event, PrefillProgress)]
        assert all(0 < done <= prompt for done in progress)
        if end.timings.seconds_to_first_token is not None:
            assert progress[-1] == prompt
        self.world.seen["reused"] += usage.cached_tokens > 0

    def assert_no_kv_has_leaked(self) -> None:
        assert until(lambda: self.held_memory() == 0), self.held_memory()

    def held_memory(self) -> int:
        """Bytes that are neither weights nor finished KV."""
        return mx.get_active_memory() - self.memory - self.engine._loop.prefixes.nbytes


def bytes_of_kv(engine: Engine) -> int:
    """Of all sequences, and of what is kept of finished ones."""
    scheduler = engine._loop.scheduler
    sequences = (*scheduler._running, *scheduler._waiting, *scheduler._idle)
    held = sum(s.cache.nbytes for s in sequences if s.cache is not None)
    return held + engine._loop.prefixes.nbytes


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


@pytest.fixture(autouse=True)
def others_have_given_their_memory_back() -> None:
    """The process's memory is counted, and engines of other tests may be on their way."""
    gc.collect()
    steady, memory = time.monotonic(), mx.get_active_memory()
    while time.monotonic() - steady < 0.5:
        time.sleep(0.02)
        if mx.get_active_memory() != memory:
            steady, memory = time.monotonic(), mx.get_active_memory()


def run_machine(world: World, *, examples: int, steps: int) -> None:
    # Typed as a class, but what makes a machine will do.
    machine = cast("type[RuleBasedStateMachine]", lambda: EngineMachine(world))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    happened = {"paused", "waited", "reused", "closed by force", "step failed", "receiver failed"}
    ends = {"stop", "length", "cancelled", "timeout"}
    assert {what for what, count in world.seen.items() if count} >= happened | ends, world.seen


@pytest.mark.timeout(300)
def test_every_request_ends_once_with_the_tokens_it_gets_alone(world: World) -> None:
    run_machine(world, examples=12, steps=10)


def test_a_thread_that_dies_ends_all_requests_with_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(world.checkpoint, world.tokenizer, window=WINDOW, max_running=2)
    memory = mx.get_active_memory()
    asked = [Asked(engine, endless(i)) for i in range(4)]
    assert until(lambda: any(isinstance(e, AnswerText) for e in asked[0].events))
    deaths: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: deaths.append(args.exc_type))
    monkeypatch.setattr(engine._loop, "_read_inbox", lambda *, block: sys.exit("dead"))
    for one in asked:
        assert one.ended.wait(PATIENCE)
        assert isinstance(one.end, Failed)
        assert sum(isinstance(event, Finished | Failed) for event in one.events) == 1
    engine._thread.join(PATIENCE)
    assert not engine._thread.is_alive()
    assert deaths == [SystemExit]
    with pytest.raises(EngineError):
        engine.submit(endless(1))
    engine.prefill_when_idle(tokens(40, 1))
    engine.cancel(asked[0].sequence)
    engine.close()
    world.faults.in_flight.clear()
    assert until(lambda: mx.get_active_memory() < memory)


def test_a_request_that_no_thread_has_read_ends_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    SteppedEngine.gate = Gate()
    engine = SteppedEngine(world.checkpoint, world.tokenizer, window=WINDOW)
    asked = Asked(engine, endless(1))
    engine.gate.wait_for_arrival()
    monkeypatch.setattr(EngineLoop, "_read_inbox", lambda *_, **__: sys.exit("dead"))
    engine.gate.open()
    assert asked.ended.wait(PATIENCE)
    assert isinstance(asked.end, Failed)
    engine.close()


def test_loading_that_fails_in_any_way_is_told_and_does_not_hang(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("model.norm.weight")

    monkeypatch.setattr(magistral_mlx.ranks.team, "load_decoder", fail)
    dead = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: dead.set())
    raised: list[BaseException] = []
    opening = threading.Thread(target=lambda: raised.append(opened(world)), daemon=True)
    opening.start()
    opening.join(10)
    assert [type(error) for error in raised] == [EngineError]
    assert dead.wait(PATIENCE)


def endless(seed: int) -> Request:
    return Request(
        tokens(40, seed),
        options=OutputOptions(sampling=SAMPLINGS[2], ignore_eos=True, stop_repetition=False),
    )


def opened(world: World) -> BaseException:
    with pytest.raises(EngineError, match="died") as error:
        Engine(world.checkpoint, world.tokenizer, window=WINDOW)
    return error.value


def test_closing_gives_back_the_memory_of_requests_that_were_running(world: World) -> None:
    memory = mx.get_active_memory()
    engine = Engine(world.checkpoint, world.tokenizer, window=WINDOW)
    asked = [Asked(engine, endless(i)) for i in range(4)]
    assert until(lambda: any(isinstance(e, AnswerText) for e in asked[0].events))
    engine.close()
    world.faults.in_flight.clear()
    assert {type(one.end) for one in asked} == {Finished}
    assert until(lambda: mx.get_active_memory() <= memory), mx.get_active_memory() - memory


def test_requests_that_wait_outlive_a_step_that_fails(world: World) -> None:
    SteppedEngine.gate = Gate()
    engine = SteppedEngine(world.checkpoint, world.tokenizer, window=WINDOW, max_running=1)
    running, waiting = (Asked(engine, request) for request in world.requests[:2])
    try:
        engine.take_turns(1)
        world.faults.place = "before settle"
        engine.gate.open()
        assert waiting.ended.wait(PATIENCE)
        assert isinstance(running.end, Failed)
        assert isinstance(waiting.end, Finished)
        assert waiting.tokens == world.alone(waiting.request).tokens
    finally:
        engine.close()


def test_kv_that_a_failed_step_was_to_compute_is_not_used_again(world: World) -> None:
    request = with_options(endless(1), max_tokens=12)
    SteppedEngine.gate = Gate()
    engine = SteppedEngine(
        world.checkpoint, world.tokenizer, window=WINDOW, prefix_bytes=9 * BLOCK_BYTES
    )
    try:
        cancelled = Asked(engine, request)
        engine.take_turns(3)
        engine.cancel(cancelled.sequence)
        world.faults.place = "before settle"
        engine.take_turns(1)
        assert world.faults.calm()
        engine.gate.open()
        again = Asked(engine, request)
        assert again.ended.wait(PATIENCE)
        assert again.tokens == world.alone(request).tokens
    finally:
        engine.close()


def test_a_long_prompt_that_is_cancelled_early_keeps_only_the_blocks_that_it_has_filled(
    world: World,
) -> None:
    SteppedEngine.gate = Gate()
    engine = SteppedEngine(
        world.checkpoint,
        world.tokenizer,
        window=WINDOW,
        prefill_tokens=30,
        prefix_bytes=9 * BLOCK_BYTES,
    )
    memory = mx.get_active_memory()
    try:
        cancelled = Asked(engine, Request(tokens(WINDOW - 20, 1)))
        engine.take_turns(3)
        engine.cancel(cancelled.sequence)
        engine.gate.open()
        assert cancelled.ended.wait(PATIENCE)
        assert until(lambda: mx.get_active_memory() == memory + BLOCK_BYTES)
        assert engine._loop.prefixes.nbytes == BLOCK_BYTES
    finally:
        engine.close()


def test_reasoning_that_is_closed_at_the_start_counts_for_those_admitted_beside_it(
    world: World,
) -> None:
    """Six tokens come at once, and with them the prompt of 253 needs another block."""
    limit = 3 * BLOCK_BYTES
    closed = Request(
        tokens(253, 1), state="reasoning", options=OutputOptions(thinking_budget=0, max_tokens=24)
    )
    others = (
        Request(tokens(86, 2), options=OutputOptions(max_tokens=8)),
        Request(tokens(82, 3), options=OutputOptions(max_tokens=8, kv_precision=kv_precision(8))),
    )
    SteppedEngine.gate = Gate()
    engine = SteppedEngine(
        world.checkpoint, world.tokenizer, window=WINDOW, prefill_tokens=500, kv_bytes=limit
    )
    try:
        asked = [Asked(engine, request) for request in (closed, *others)]
        while not all(one.sequence.finished for one in asked):
            engine.take_turns(1)
            assert bytes_of_kv(engine) <= limit
    finally:
        engine.gate.open()
        engine.close()


def test_a_request_that_is_paused_stays_out_until_its_last_token_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawn the first time and not again in full, after which the next step would not count.
    request = with_options(endless(1), sampling=SAMPLINGS[1], max_tokens=12)
    SteppedEngine.gate = Gate()
    engine = SteppedEngine(world.checkpoint, world.tokenizer, window=WINDOW)
    scheduler = engine._loop.scheduler

    def pause() -> list[Sequence]:
        """As for want of memory, but there is room at once."""
        monkeypatch.undo()
        scheduler._waiting, scheduler._running = scheduler._running, []
        return list(scheduler._waiting)

    try:
        asked = Asked(engine, request)
        engine.take_turns(4)
        assert 0 < len(asked.tokens) < 8
        monkeypatch.setattr(scheduler, "pause", pause)
        engine.gate.open()
        assert asked.ended.wait(PATIENCE)
        assert asked.tokens == world.alone(request).tokens
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(ALONE not in os.environ, reason="the next test runs it")
def test_many_more_examples(world: World) -> None:
    run_machine(world, examples=60, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_same_with_many_more_examples_in_a_process_of_its_own() -> None:
    """Engines that other tests leave open would count as KV that leaked."""
    test = ["-m", "slow", "tests", "-k", test_many_more_examples.__name__, "-p", "no:randomly"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *test],
        cwd=ROOT,
        env={**os.environ, ALONE: "1"},
        check=True,
    )
