"""The engine on a tiny random model: many requests at once give what each gives alone."""

import gc
import math
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import mlx.core as mx
import pytest

import magistral_mlx.engine.loop
from magistral_mlx.checkpoint.folder import Checkpoint, open_checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.errors import EngineError, RequestError
from magistral_mlx.events import Event, Failed, Finished, PrefillProgress, ReasoningText
from magistral_mlx.model.decoder import load_decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import Draw, SamplingParams, sample_full
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import VOCAB, random_weights, write_hf
from tests.tiny_engine import with_options

WINDOW = 700
GREEDY = SamplingParams(temperature=0)
# Flat enough that the candidates seldom hold top_p of the mass: tokens are drawn again in full.
FLAT = SamplingParams(temperature=3, top_p=0.99, seed=11)


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Iterator[Engine]:
    engine = Engine(checkpoint, tokenizer, window=WINDOW, max_running=4, prefill_tokens=16)
    yield engine
    engine.close()


def prompt(length: int, *, seed: int = 0) -> tuple[int, ...]:
    return tuple(1000 + (7 * i + 13 * seed + i * i) % (VOCAB - 1000) for i in range(length))


def run(engine: Engine, *requests: Request) -> list[tuple[list[int], list[Event]]]:
    """Submit all, wait for all: the tokens after each prompt, and the events."""
    queues = [SimpleQueue[Event]() for _ in requests]
    sequences = [engine.submit_to(r, q.put) for r, q in zip(requests, queues, strict=True)]
    events = [wait(q) for q in queues]
    return [
        (sequence.ids[len(sequence.request.prompt) :], got)
        for sequence, got in zip(sequences, events, strict=True)
    ]


def wait(events: SimpleQueue[Event]) -> list[Event]:
    got: list[Event] = []
    while not got or not isinstance(got[-1], Finished | Failed):
        got.append(events.get(timeout=60))
    return got


def finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def generate_plainly(checkpoint: Checkpoint, request: Request, count: int, eos: int) -> list[int]:
    """One token after another, each from a forward pass over everything before it."""
    decoder = load_decoder(checkpoint)
    ids = list(request.prompt)
    while len(ids) < len(request.prompt) + count:
        logits = decoder(mx.array(ids), [Segment(decoder.make_cache(), len(ids), 1)])[0]
        draw = Draw(request.options.sampling, request.options.sampling.seed or 0, len(ids))
        ids.append(sample_full(logits, draw))
        if ids[-1] == eos:
            break
    return ids[len(request.prompt) :]


@pytest.mark.parametrize("sampling", [GREEDY, FLAT], ids=["greedy", "flat"])
def test_tokens_are_those_of_a_plain_loop(
    engine: Engine, checkpoint: Checkpoint, tokenizer: Tokenizer, sampling: SamplingParams
) -> None:
    request = Request(prompt(40), options=OutputOptions(sampling=sampling, max_tokens=24))
    [(tokens, _)] = run(engine, request)
    assert tokens == generate_plainly(checkpoint, request, 24, tokenizer.eos_id)


def test_requests_that_share_steps_get_the_tokens_that_they_get_alone(engine: Engine) -> None:
    requests = [
        Request(
            prompt(length, seed=i),
            options=OutputOptions(
                sampling=SamplingParams(temperature=i % 3, top_p=0.9, top_k=5 * (i % 2), seed=i),
                max_tokens=20 + 7 * i,
            ),
        )
        for i, length in enumerate((3, 90, 17, 1, 45, 200))
    ]
    together = [tokens for tokens, _ in run(engine, *requests)]
    alone = [run(engine, request)[0][0] for request in requests]
    assert together == alone


def test_a_seed_gives_the_same_tokens_again_and_no_seed_gives_others(engine: Engine) -> None:
    def tokens(seed: int | None) -> list[int]:
        sampling = SamplingParams(temperature=2, top_p=1, seed=seed)
        return run(
            engine, Request(prompt(9), options=OutputOptions(sampling=sampling, max_tokens=12))
        )[0][0]

    assert tokens(5) == tokens(5)
    assert tokens(None) != tokens(None)


def test_max_tokens_beyond_the_window_is_clamped_and_the_end_says_length(engine: Engine) -> None:
    request = Request(
        prompt(WINDOW - 30),
        options=OutputOptions(sampling=FLAT, max_tokens=10_000, stop_repetition=False),
    )
    [(tokens, events)] = run(engine, request)
    assert len(tokens) == 30
    assert finished(events).reason == "length"
    assert finished(events).usage.completion_tokens == 30


def test_a_prompt_that_fills_the_window_is_refused_with_both_numbers(engine: Engine) -> None:
    with pytest.raises(RequestError, match="700 tokens and the window holds 700"):
        engine.submit(Request(prompt(WINDOW)))


def test_ids_outside_the_vocabulary_are_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="id 2000; the vocabulary has 2,000"):
        engine.submit(Request((1, VOCAB)))
    with pytest.raises(RequestError, match="-1"):
        engine.submit(Request((-1, 5)))


def test_progress_is_told_chunk_by_chunk_before_any_text(engine: Engine) -> None:
    [(_, events)] = run(
        engine, Request(prompt(50), options=OutputOptions(sampling=GREEDY, max_tokens=2))
    )
    progress = [event.done for event in events if isinstance(event, PrefillProgress)]
    assert progress == [16, 32, 48, 50]
    assert isinstance(events[3], PrefillProgress)


@pytest.mark.parametrize("budget", [0, 1, 20])
def test_reasoning_is_closed_when_its_budget_is_spent(
    engine: Engine, tokenizer: Tokenizer, budget: int
) -> None:
    request = Request(
        prompt(12),
        state="reasoning",
        options=OutputOptions(sampling=FLAT, max_tokens=80, thinking_budget=budget),
    )
    [(tokens, events)] = run(engine, request)
    closing = tokenizer.think_close_ids
    at = next(i for i in range(len(tokens)) if tokens[i : i + len(closing)] == closing)
    assert finished(events).reasoning_closed_by_force
    assert finished(events).usage.reasoning_tokens <= budget
    assert at == budget
    assert len(tokens) > at + len(closing)


def test_tokens_after_a_forced_close_are_drawn_as_if_the_model_had_closed(
    engine: Engine, checkpoint: Checkpoint, tokenizer: Tokenizer
) -> None:
    request = Request(
        prompt(12),
        state="reasoning",
        options=OutputOptions(sampling=GREEDY, max_tokens=40, thinking_budget=9),
    )
    [(tokens, _)] = run(engine, request)
    closing = tokenizer.think_close_ids
    at = next(i for i in range(len(tokens)) if tokens[i : i + len(closing)] == closing)
    known = at + len(closing)
    rest = Request((*request.prompt, *tokens[:known]), options=OutputOptions(sampling=GREEDY))
    count = len(tokens) - known
    assert generate_plainly(checkpoint, rest, count, tokenizer.eos_id) == tokens[known:]


def test_reasoning_leaves_the_reserve_of_the_window_to_the_answer(
    engine: Engine, tokenizer: Tokenizer
) -> None:
    request = Request(
        prompt(500),
        state="reasoning",
        options=OutputOptions(sampling=GREEDY, answer_reserve=60, stop_repetition=False),
    )
    [(tokens, events)] = run(engine, request)
    closing = tokenizer.think_close_ids
    at = next(i for i in range(len(tokens)) if tokens[i : i + len(closing)] == closing)
    assert finished(events).reasoning_closed_by_force
    assert 500 + at + len(closing) <= WINDOW - 60
    assert 500 + at + len(closing) > WINDOW - 60 - 2 * len(closing)


def test_an_endless_loop_ends_the_reasoning_and_then_the_output(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    # Without attention and MLP the next token depends on the last one alone: the output loops.
    weights = {
        name: array * 0 if "o_proj" in name or "down_proj" in name else array
        for name, array in random_weights().items()
    }
    looping = open_checkpoint(write_hf(tmp_path / "looping", weights))
    engine = Engine(looping, tokenizer, window=1400)
    try:
        thinking = Request(prompt(2), state="reasoning", options=OutputOptions(sampling=GREEDY))
        [(tokens, events)] = run(engine, thinking)
        assert finished(events).reason == "repetition"
        assert finished(events).reasoning_closed_by_force
        assert len(tokens) < 1300
        [(tokens, events)] = run(engine, with_options(thinking, stop_repetition=False))
        assert finished(events).reason == "length"
        assert len(tokens) == 1398
    finally:
        engine.close()


def test_cancelling_ends_one_request_and_changes_nothing_for_the_others(engine: Engine) -> None:
    long = Request(prompt(30, seed=1), options=OutputOptions(sampling=FLAT, stop_repetition=False))
    other = Request(prompt(20, seed=2), options=OutputOptions(sampling=FLAT, max_tokens=60))
    stream = engine.submit(long)
    events = SimpleQueue[Event]()
    sequence = engine.submit_to(other, events.put)
    next(event for event in stream if not isinstance(event, PrefillProgress))
    stream.cancel()
    last = list(stream)[-1]
    wait(events)
    assert isinstance(last, Finished)
    assert last.reason == "cancelled"
    assert last.usage.completion_tokens < 200
    assert sequence.ids[20:] == run(engine, other)[0][0]


def test_a_request_that_waits_for_a_place_can_be_cancelled(engine: Engine) -> None:
    running = [
        engine.submit(
            Request(prompt(9, seed=i), options=OutputOptions(sampling=FLAT, stop_repetition=False))
        )
        for i in range(4)
    ]
    waiting = engine.submit(Request(prompt(9, seed=9), options=OutputOptions(sampling=FLAT)))
    waiting.cancel()
    [last] = list(waiting)
    assert isinstance(last, Finished)
    assert last.reason == "cancelled"
    for stream in running:
        stream.cancel()
        list(stream)


def test_many_threads_may_submit(engine: Engine) -> None:
    def one(seed: int) -> list[int]:
        sampling = SamplingParams(temperature=1, seed=seed)
        return run(
            engine,
            Request(prompt(11, seed=seed), options=OutputOptions(sampling=sampling, max_tokens=9)),
        )[0][0]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(one, range(24)))
    assert together == [one(seed) for seed in range(24)]


def test_memory_returns_when_requests_have_ended(engine: Engine) -> None:
    run(engine, Request(prompt(9), options=OutputOptions(sampling=GREEDY, max_tokens=4)))
    before = settled_memory()
    run(
        engine,
        *(
            Request(prompt(400, seed=i), options=OutputOptions(sampling=FLAT, max_tokens=50))
            for i in range(8)
        ),
    )
    assert settled_memory() - before < 100_000  # one sequence's KV is 800,000 bytes


def settled_memory() -> int:
    """MLX frees what the last step held a moment after its result was read."""
    deadline = time.monotonic() + 1
    least = mx.get_active_memory()
    while time.monotonic() < deadline:
        least = min(least, mx.get_active_memory())
        time.sleep(0.01)
    return least


@pytest.mark.parametrize("stop", [(), ("never written",)])
@pytest.mark.parametrize("cancelled", [False, True])
def test_an_idle_engine_holds_no_ended_sequence(
    engine: Engine, stop: tuple[str, ...], cancelled: bool
) -> None:
    events = SimpleQueue[Event]()
    options = OutputOptions(sampling=GREEDY, max_tokens=8, stop=stop)
    sequence = engine.submit_to(Request(prompt(30, seed=5), "answer", options), events.put)
    if cancelled:
        engine.cancel(sequence)
    wait(events)
    engine.cancel(sequence)  # too late, and no harm
    ended = weakref.ref(sequence)
    del sequence
    end = time.monotonic() + 10
    while ended() is not None and time.monotonic() < end:
        time.sleep(0.02)
        gc.collect()
    assert ended() is None


def test_a_step_that_fails_ends_its_requests_and_the_engine_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("out of memory")

    monkeypatch.setattr(magistral_mlx.engine.loop, "dispatch", failing)
    events = list(engine.submit(Request(prompt(5), options=OutputOptions(sampling=GREEDY))))
    assert isinstance(events[-1], Failed)
    assert "out of memory" in caplog.text
    [(tokens, _)] = run(
        engine, Request(prompt(5), options=OutputOptions(sampling=GREEDY, max_tokens=3))
    )
    assert len(tokens) == 3


def test_closing_ends_what_runs_and_refuses_what_comes(
    checkpoint: Checkpoint, tokenizer: Tokenizer
) -> None:
    engine = Engine(checkpoint, tokenizer, window=WINDOW)
    stream = engine.submit(
        Request(prompt(5), options=OutputOptions(sampling=FLAT, stop_repetition=False))
    )
    next(stream)
    engine.close()
    engine.close()
    last = list(stream)[-1]
    assert isinstance(last, Finished)
    assert last.reason == "cancelled"
    with pytest.raises(EngineError, match="closed"):
        engine.submit(Request(prompt(5)))


def test_weights_that_cannot_be_read_raise_where_the_engine_is_opened(
    checkpoint: Checkpoint, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder = write_hf(tmp_path / "damaged")
    damaged = open_checkpoint(folder)
    for path in damaged.weight_files:
        path.unlink()
    with pytest.raises((OSError, RuntimeError)):
        Engine(damaged, tokenizer, window=WINDOW)


def test_timings_and_usage_add_up(engine: Engine) -> None:
    start = time.perf_counter()
    [(tokens, events)] = run(
        engine, Request(prompt(60), options=OutputOptions(sampling=FLAT, max_tokens=30))
    )
    elapsed = time.perf_counter() - start
    end = finished(events)
    assert end.usage.prompt_tokens == 60
    assert end.usage.completion_tokens == len(tokens)
    assert end.timings.seconds_to_first_token is not None
    assert end.timings.decode_tokens_per_second is not None
    decoding = (len(tokens) - 1) / end.timings.decode_tokens_per_second
    assert math.isclose(
        end.timings.seconds_to_first_token + decoding, end.timings.total_seconds, rel_tol=0.2
    )
    assert end.timings.total_seconds <= elapsed
    assert end.timings.peak_memory_bytes > 0


def test_reasoning_text_comes_from_an_output_that_opens_in_reasoning(engine: Engine) -> None:
    [(_, events)] = run(
        engine,
        Request(prompt(4), state="reasoning", options=OutputOptions(sampling=FLAT, max_tokens=20)),
    )
    assert any(isinstance(event, ReasoningText) for event in events)


def test_a_sequence_is_deaf_after_its_end(engine: Engine) -> None:
    events = SimpleQueue[Event]()
    sequence: Sequence = engine.submit_to(
        Request(prompt(4), options=OutputOptions(sampling=GREEDY, max_tokens=2)), events.put
    )
    wait(events)
    engine.cancel(sequence)
    run(engine, Request(prompt(4), options=OutputOptions(sampling=GREEDY, max_tokens=2)))
    assert events.empty()
