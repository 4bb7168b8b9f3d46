"""KV that is reused between requests changes no token, and spares the tokens it should."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.scheduler import IDLE_TOKENS
from magistral_mlx.events import Event, Failed, Finished, PrefillProgress
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import VOCAB

WINDOW = 2000
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint) -> Iterator[Engine]:
    """An engine that reuses nothing."""
    engine = make_engine(checkpoint, prefix_bytes=0)
    yield engine
    engine.close()


@pytest.fixture
def reusing(checkpoint: Checkpoint) -> Iterator[Engine]:
    engine = make_engine(checkpoint, prefix_bytes=100_000_000)
    yield engine
    engine.close()


def make_engine(checkpoint: Checkpoint, *, prefix_bytes: int) -> Engine:
    tokenizer = Tokenizer.open(checkpoint.folder)
    return Engine(
        checkpoint, tokenizer, window=WINDOW, prefill_tokens=32, prefix_bytes=prefix_bytes
    )


def prompt(length: int, *, seed: int = 0) -> tuple[int, ...]:
    return tuple(1000 + (7 * i + 13 * seed + i * i) % (VOCAB - 1000) for i in range(length))


@dataclass(frozen=True)
class Output:
    tokens: tuple[int, ...]
    end: Finished
    progress: list[PrefillProgress]


def run(engine: Engine, request: Request, *, cancel_after: int | None = None) -> Output:
    events = SimpleQueue[Event]()
    sequence = engine.submit_to(request, events.put)
    count = 0
    progress: list[PrefillProgress] = []
    while not isinstance(event := events.get(timeout=60), Finished):
        assert not isinstance(event, Failed)
        count += 1
        if isinstance(event, PrefillProgress):
            progress.append(event)
        if count == cancel_after:
            engine.cancel(sequence)
    return Output(tuple(sequence.ids[len(request.prompt) :]), event, progress)


def test_a_continued_conversation_prefills_only_what_is_new(reusing: Engine) -> None:
    first = Request(prompt(100), options=OutputOptions(sampling=GREEDY, max_tokens=20))
    output = run(reusing, first)
    assert output.end.usage.cached_tokens == 0
    longer = (*first.prompt, *output.tokens, *prompt(10, seed=3))
    second = run(reusing, Request(longer, options=OutputOptions(sampling=GREEDY, max_tokens=5)))
    assert len(longer) - second.end.usage.cached_tokens <= 10 + 1
    # It is told while the prompt is prefilled, not only at the end.
    assert {event.cached for event in second.progress} == {second.end.usage.cached_tokens}


def test_the_same_prompt_again_prefills_one_token(reusing: Engine) -> None:
    request = Request(prompt(100), options=OutputOptions(sampling=GREEDY, max_tokens=20))
    first, again = run(reusing, request), run(reusing, request)
    assert again.end.usage.cached_tokens == 99
    assert again.tokens == first.tokens


def test_a_cancelled_prefill_is_not_lost(reusing: Engine) -> None:
    request = Request(prompt(1500), options=OutputOptions(sampling=GREEDY, max_tokens=3))
    cancelled = run(reusing, request, cancel_after=5)
    assert cancelled.end.reason == "cancelled"
    again = run(reusing, request)
    assert 5 * 32 <= again.end.usage.cached_tokens < 1499


def test_an_idle_prefill_serves_the_request_that_follows(reusing: Engine, plain: Engine) -> None:
    reusing.prefill_when_idle(prompt(300))
    request = Request(
        (*prompt(300), *prompt(8, seed=5)), options=OutputOptions(sampling=GREEDY, max_tokens=6)
    )
    until(lambda: stored(reusing, prompt(300)))
    output = run(reusing, request)
    assert output.end.usage.cached_tokens == 300
    assert output.tokens == run(plain, request).tokens


def test_an_idle_prefill_gives_way_and_is_taken_up_again(reusing: Engine) -> None:
    idle = prompt(1900)
    reusing.prefill_when_idle(idle)
    between = run(
        reusing, Request(prompt(40, seed=8), options=OutputOptions(sampling=GREEDY, max_tokens=4))
    )
    assert between.end.usage.cached_tokens == 0
    until(lambda: stored(reusing, idle))
    after = run(
        reusing, Request((*idle, 1001), options=OutputOptions(sampling=GREEDY, max_tokens=1))
    )
    assert after.end.usage.cached_tokens == 1900


def test_a_request_takes_over_the_idle_prefill_that_it_begins_with(reusing: Engine) -> None:
    idle = prompt(1900)
    reusing.prefill_when_idle(idle)
    request = Request((*idle, 1001), options=OutputOptions(sampling=GREEDY, max_tokens=1))
    events = SimpleQueue[Event]()
    until(lambda: prefilled(reusing) >= 3 * IDLE_TOKENS)
    reusing.submit_to(request, events.put)
    progress = events.get(timeout=60)
    assert isinstance(progress, PrefillProgress)
    assert progress.done > 3 * IDLE_TOKENS


def stored(engine: Engine, tokens: tuple[int, ...]) -> bool:
    return engine._loop.prefixes.longest_prefix((*tokens, 1000)) == len(tokens)


def prefilled(engine: Engine) -> int:
    """Tokens of the idle prompts that have their KV so far."""
    return max((s.cache.length for s in engine._loop.scheduler.unfinished() if s.cache), default=0)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


turns = st.lists(
    st.tuples(
        st.integers(0, 3),  # which earlier output to go on from
        st.integers(0, 30),  # tokens of it to take back
        st.integers(1, 25),  # tokens to add
        st.integers(0, 2),  # which tokens
        st.sampled_from([None, None, 1, 3, 6]),  # events after which to cancel
    ),
    min_size=2,
    max_size=7,
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(turns)
def test_reuse_changes_no_token_whatever_is_edited_branched_and_cancelled(
    plain: Engine, checkpoint: Checkpoint, turns: list[tuple[int, int, int, int, int | None]]
) -> None:
    engine = make_engine(checkpoint, prefix_bytes=100_000_000)
    try:
        histories = [prompt(50)]
        for which, back, more, seed, cancel_after in turns:
            base = histories[which % len(histories)]
            tokens = (*base[: max(20, len(base) - back)], *prompt(more, seed=seed))
            request = Request(tokens, options=OutputOptions(sampling=GREEDY, max_tokens=8))
            output = run(engine, request, cancel_after=cancel_after)
            expected = run(plain, request)
            assert output.tokens == expected.tokens[: len(output.tokens)]
            assert cancel_after is not None or output.tokens == expected.tokens
            histories.append((*tokens, *output.tokens))
    finally:
        engine.close()
