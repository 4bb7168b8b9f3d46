"""Who advances, by how much, who waits, and who gives way: the scheduler without a model."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistral_mlx.engine.kv_budget import KVBudget
from magistral_mlx.engine.output import EmittedOutput
from magistral_mlx.engine.request import Request, limits
from magistral_mlx.engine.scheduler import (
    FEW,
    IDLE_TOKENS,
    MAX_IDLE,
    WORTH_WAITING,
    ScheduledSegment,
    Scheduler,
)
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.engine.step_costs import StepCosts
from magistral_mlx.events import Event, Finished
from magistral_mlx.kv.cache import BLOCK, KVCache, kv_precision
from magistral_mlx.options import PRIORITIES, OutputOptions, Priority
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import small_tekken

WINDOW = 3 * BLOCK


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("small") / "tekken.json"
    path.write_text(small_tekken())
    return Tokenizer.open(path)


@dataclass
class Desk:
    """A scheduler, and an engine's part in it: sequences start, run and pause, without a model."""

    tokenizer: Tokenizer
    scheduler: Scheduler

    def submit(
        self,
        length: int,
        *,
        seed: int = 0,
        priority: Priority = "interactive",
        max_tokens: int | None = None,
        prompt: tuple[int, ...] | None = None,
        events: list[Event] | None = None,
        kv_bits: int | None = None,
    ) -> Sequence:
        request = Request(
            prompt or tuple(1000 + (i * i + 7 * seed) % 999 for i in range(length)),
            options=OutputOptions(priority=priority, max_tokens=max_tokens, stop_repetition=False),
        )
        send = events.append if events is not None else (lambda _: None)
        output = EmittedOutput(
            send,
            stop=(),
            on_stop=lambda tokens: sequence.end("stop", tokens),
            on_failure=lambda: None,
        )
        sequence = Sequence(
            request,
            limits(request, window=WINDOW),
            self.tokenizer,
            output.take,
            precision=kv_precision(kv_bits),
        )
        self.scheduler.add(sequence)
        return sequence

    def start(self, sequences: Iterable[Sequence], *, known: int = 0) -> list[Sequence]:
        started = list(sequences)
        for sequence in started:
            cache = KVCache(1)
            cache.advance(min(known, len(sequence.ids) - 1))
            sequence.start(cache)
        return started

    def advance(self) -> list[ScheduledSegment]:
        """What the engine does in a step, and the step's tokens are read at once."""
        self.scheduler.retire()
        if self.scheduler.waiting:
            for sequence in self.scheduler.interrupt_idle():
                sequence.release()
        paused = self.scheduler.pause()
        for sequence in paused:
            sequence.release()
        self.start(self.scheduler.admit() if not paused else [])
        idle = self.scheduler.idle()
        if idle is not None and idle.cache is None:
            self.start([idle])
        segments = self.scheduler.schedule()
        for segment in segments:
            self.run(segment)
        return segments

    def run(self, segment: ScheduledSegment) -> None:
        sequence = segment.sequence
        assert sequence.cache is not None
        sequence.cache.advance(segment.tokens)
        sequence.prefilled(sequence.cache.length)
        if segment.sample:
            sequence.accept(1500)


@pytest.fixture
def desk(tokenizer: Tokenizer) -> Desk:
    return open_desk(tokenizer)


def open_desk(
    tokenizer: Tokenizer,
    *,
    max_running: int = 8,
    prefill_tokens: int = 64,
    blocks: int | None = None,
) -> Desk:
    kv = KVBudget({None: 1, 8: 1, 4: 1}, limit=None if blocks is None else blocks * BLOCK)
    scheduler = Scheduler(max_running=max_running, prefill_tokens=prefill_tokens, kv=kv)
    return Desk(tokenizer, scheduler)


def test_places_are_given_in_order_of_priority_and_then_of_arrival(tokenizer: Tokenizer) -> None:
    desk = open_desk(tokenizer, max_running=3)
    first = desk.submit(9, seed=1, priority="batch")
    second = desk.submit(9, seed=2)
    third = desk.submit(9, seed=3, priority="batch")
    fourth = desk.submit(9, seed=4)
    assert desk.scheduler.waiting == [second, fourth, first, third]
    assert desk.scheduler.admit() == [second, fourth, first]
    assert desk.scheduler.waiting == [third]
    assert desk.scheduler.running == [second, fourth, first]


def test_a_request_that_does_not_fit_is_not_overtaken(tokenizer: Tokenizer) -> None:
    desk = open_desk(tokenizer, blocks=3)
    desk.submit(300, seed=1)
    large = desk.submit(500, seed=2)
    small = desk.submit(2, seed=3)
    assert len(desk.start(desk.scheduler.admit())) == 1
    assert desk.scheduler.waiting == [large, small]


def test_one_request_is_admitted_however_large_it_is(tokenizer: Tokenizer) -> None:
    desk = open_desk(tokenizer, blocks=3)
    only = desk.submit(WINDOW - 1)
    assert desk.scheduler.admit() == [only]


def test_prompts_get_equal_parts_and_what_one_leaves_goes_to_the_others(desk: Desk) -> None:
    lengths = (10, 100, 100)
    sequences = [desk.submit(length, seed=i) for i, length in enumerate(lengths)]
    desk.start(desk.scheduler.admit())
    segments = {id(segment.sequence): segment for segment in desk.scheduler.schedule()}
    assert [segments[id(s)].tokens for s in sequences] == [10, 27, 27]
    assert [segments[id(s)].sample for s in sequences] == [True, False, False]


def test_a_step_in_which_others_decode_has_room_for_as_many_prompt_tokens_as_it_costs(
    desk: Desk,
) -> None:
    desk.scheduler.costs = StepCosts((1, 64), (1.0, 1.0 + 63 * 0.05))
    desk.submit(3, seed=1)
    desk.advance()
    alone = desk.submit(200, seed=2)
    segments = desk.advance()
    [chunk] = [segment for segment in segments if segment.sequence is alone]
    assert [segment.tokens for segment in segments if segment.sequence is not alone] == [1]
    assert chunk.tokens == 20  # 1 decoding token costs 1.0, and 21 tokens 2.0


def test_chunks_get_smaller_as_they_have_more_before_them_to_attend_to(
    tokenizer: Tokenizer,
) -> None:
    desk = open_desk(tokenizer, prefill_tokens=512)
    costs = StepCosts((1, 512), (1.0, 1.0 + 511 * 0.01), attention=1e-4)
    desk.scheduler.costs = costs
    desk.submit(3, seed=1)
    desk.advance()
    prompt = desk.submit(700, seed=2)
    chunks: list[tuple[int, int]] = []
    while not prompt.output_length:
        behind = len(prompt.ids) - prompt.unrun_tokens
        chunk = sum(segment.tokens for segment in desk.advance() if segment.sequence is prompt)
        chunks.append((behind, chunk))
    assert sum(tokens for _, tokens in chunks) == 700
    assert [tokens for _, tokens in chunks[:-1]] == sorted(
        (tokens for _, tokens in chunks[:-1]), reverse=True
    )
    for behind, tokens in chunks:
        assert 0.01 * tokens + 1e-4 * tokens * (behind + tokens / 2) <= 1.1


def test_known_tokens_that_are_few_do_not_wait_for_the_prompts_budget(tokenizer: Tokenizer) -> None:
    desk = open_desk(tokenizer, prefill_tokens=4)
    few = [desk.submit(FEW, seed=i) for i in range(3)]
    desk.submit(200, seed=9)
    desk.start(desk.scheduler.admit())
    tokens = {id(segment.sequence): segment.tokens for segment in desk.scheduler.schedule()}
    assert [tokens.pop(id(s)) for s in few] == [FEW] * 3
    assert list(tokens.values()) == [4]


def test_no_token_is_planned_beyond_the_limit(desk: Desk) -> None:
    sequence = desk.submit(5, max_tokens=2)
    desk.start(desk.scheduler.admit())
    [segment] = desk.scheduler.schedule()
    assert (segment.tokens, segment.sample) == (5, True)
    assert sequence.cache is not None
    sequence.cache.advance(5)
    # The first token is in flight, the second is the last one: after it nothing may be run.
    assert [(s.tokens, s.sample) for s in desk.scheduler.schedule()] == [(0, True)]
    sequence.accept(1500)
    sequence.cache.advance(1)
    assert desk.scheduler.schedule() == []
    sequence.accept(1500)
    assert sequence.finished


def test_the_least_urgent_and_then_the_youngest_are_paused_and_come_back_first(
    tokenizer: Tokenizer,
) -> None:
    desk = open_desk(tokenizer, blocks=4)
    oldest = desk.submit(250, seed=1, priority="batch")
    youngest = desk.submit(250, seed=2)
    assert desk.start(desk.scheduler.admit()) == [youngest, oldest]
    never = desk.submit(9, seed=3)
    assert desk.scheduler.pause() == []
    for sequence in (youngest, oldest):
        sequence.ids += [1500] * 300
    assert desk.scheduler.pause() == [oldest]
    assert desk.scheduler.running == [youngest]
    assert desk.scheduler.waiting == [never, oldest]
    other = desk.submit(9, seed=4, priority="batch")
    assert desk.scheduler.waiting == [never, oldest, other]


def test_of_equal_priority_the_youngest_is_paused(tokenizer: Tokenizer) -> None:
    desk = open_desk(tokenizer, blocks=4)
    first, second = (desk.submit(250, seed=i) for i in range(2))
    desk.start(desk.scheduler.admit())
    late = desk.submit(3, seed=9)
    for sequence in (first, second):
        sequence.ids += [1500] * 300
    assert desk.scheduler.pause() == [second]
    assert desk.scheduler.waiting == [second, late]


def test_a_prompt_waits_for_one_that_begins_alike_but_not_at_another_precision(
    tokenizer: Tokenizer,
) -> None:
    desk = open_desk(tokenizer)
    first, alike, other = (desk.submit(200, kv_bits=bits) for bits in (8, 8, 4))
    desk.advance()
    assert desk.scheduler.running == [first, other]
    assert desk.scheduler.waiting == [alike]


def test_the_last_sequence_is_never_paused(tokenizer: Tokenizer) -> None:
    desk = open_desk(tokenizer, blocks=1)
    only = desk.submit(200)
    desk.start(desk.scheduler.admit())
    only.ids += [1500] * 400
    assert desk.scheduler.pause() == []


def test_cached_tokens_are_those_of_the_first_start(desk: Desk) -> None:
    events: list[Event] = []
    sequence = desk.submit(100, events=events)
    desk.start([sequence], known=30)
    sequence.release()
    desk.start([sequence], known=90)
    sequence.finish("cancelled")
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.cached_tokens == 30


def test_a_prompt_waits_for_another_that_prefills_the_same_beginning(desk: Desk) -> None:
    first = desk.submit(WORTH_WAITING + 40)
    alike = desk.submit(0, prompt=(*first.request.prompt[: WORTH_WAITING + 1], 1001, 1002))
    little = desk.submit(0, prompt=(*first.request.prompt[: WORTH_WAITING - 1], 1001, 1002))
    assert desk.scheduler.admit() == [first, little]
    desk.start([first, little])
    assert first.cache is not None
    first.cache.advance(WORTH_WAITING)
    assert desk.scheduler.admit() == []
    first.cache.advance(1)
    assert desk.scheduler.admit() == [alike]


def test_idle_prompts_go_one_by_one_in_small_chunks_and_only_when_nothing_else_does(
    desk: Desk,
) -> None:
    idle = desk.submit(IDLE_TOKENS + 5, priority="idle")
    desk.submit(9, seed=7, priority="idle")
    assert [(s.sequence, s.tokens) for s in desk.advance()] == [(idle, IDLE_TOKENS)]
    request = desk.submit(3, seed=1, max_tokens=1)
    assert [segment.sequence for segment in desk.advance()] == [request]
    assert idle.cache is None
    # Begun again, because what it had was given away.
    assert [(s.sequence, s.tokens) for s in desk.advance()] == [(idle, IDLE_TOKENS)]
    assert [(s.sequence, s.tokens, s.sample) for s in desk.advance()] == [(idle, 5, False)]
    assert idle.finished


def test_a_request_ends_the_idle_prompt_that_it_begins_with(desk: Desk) -> None:
    events: list[Event] = []
    idle = desk.submit(100, priority="idle", events=events)
    other = desk.submit(100, seed=5, priority="idle")
    desk.advance()
    desk.submit(0, prompt=(*idle.request.prompt, 1001))
    assert desk.scheduler.interrupt_idle() == [idle]
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "cancelled"
    desk.scheduler.retire()
    assert idle not in desk.scheduler.unfinished()
    assert other in desk.scheduler.unfinished()


def test_of_many_idle_prompts_the_oldest_are_forgotten_and_told_so(desk: Desk) -> None:
    events: list[list[Event]] = [[] for _ in range(MAX_IDLE + 2)]
    idle = [desk.submit(20, seed=i, priority="idle", events=e) for i, e in enumerate(events)]
    assert desk.scheduler.unfinished() == idle[2:]
    assert [len(e) for e in events] == [1, 1] + [0] * MAX_IDLE
    assert desk.scheduler.retire() == idle[:2]


def test_room_is_what_running_and_idle_sequences_leave(tokenizer: Tokenizer) -> None:
    desk = open_desk(tokenizer, blocks=5)
    idle = desk.submit(300, priority="idle")
    assert desk.scheduler.room() == 5 * BLOCK
    desk.start([idle])
    assert desk.scheduler.room() == 3 * BLOCK
    desk.submit(BLOCK - 2, seed=3)
    desk.start(desk.scheduler.admit())
    assert desk.scheduler.room() == 2 * BLOCK
    assert open_desk(tokenizer).scheduler.room() is None


arrivals = st.lists(
    st.tuples(
        st.integers(0, 40),  # step at which it comes
        st.sampled_from((1, 5, 30, 90, 200, 254, 400)),  # tokens of the prompt
        st.integers(0, 3),  # which prompt
        st.sampled_from(PRIORITIES),
        st.integers(1, 70),  # max_tokens
        st.sampled_from((None, None, None, 1, 9)),  # steps after which it is cancelled
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    arrivals,
    st.sampled_from((1, 2, 5)),
    st.sampled_from((3, 40, 300)),
    st.sampled_from((3, 4, 6, None)),
    st.booleans(),
)
def test_whatever_comes_all_are_served_within_the_budgets_and_in_fairness(
    tokenizer: Tokenizer,
    arrivals: list[tuple[int, int, int, Priority, int, int | None]],
    max_running: int,
    prefill_tokens: int,
    blocks: int | None,
    alike: bool,
) -> None:
    desk = open_desk(
        tokenizer, max_running=max_running, prefill_tokens=prefill_tokens, blocks=blocks
    )
    sequences: list[Sequence] = []
    cancels: list[tuple[int, Sequence]] = []
    for step in range(3_000):
        for number, (at, length, which, priority, most, cancel) in enumerate(arrivals):
            if at == step:
                seed = which if alike else number + 10
                new = desk.submit(length, seed=seed, priority=priority, max_tokens=most)
                sequences.append(new)
                cancels += [(step + cancel, new)] if cancel is not None else []
        for at, sequence in cancels:
            if at == step:
                sequence.finish("cancelled")
        queued = desk.scheduler.waiting
        segments = desk.advance()
        check_step(desk, segments, max_running, prefill_tokens, blocks)
        left = [s for s in desk.scheduler.waiting if any(s is other for other in queued)]
        # Prompts that begin alike may have to wait for each other; nobody else is passed over.
        assert alike or left == queued[len(queued) - len(left) :]
        if step > 40 and not desk.scheduler.unfinished():
            break
    assert not desk.scheduler.unfinished()
    assert all(sequence.finished for sequence in sequences)


def check_step(
    desk: Desk,
    segments: list[ScheduledSegment],
    max_running: int,
    prefill_tokens: int,
    blocks: int | None,
) -> None:
    planned = [id(segment.sequence) for segment in segments]
    assert len(planned) == len(set(planned))
    assert len(desk.scheduler._running) <= max_running
    # Something advances in every step, unless only those are left that have just ended.
    assert segments or not desk.scheduler.unfinished() or desk.scheduler.waiting
    chunks = [segment.tokens for segment in segments if segment.tokens > FEW]
    assert sum(chunks) <= max(prefill_tokens, IDLE_TOKENS)
    held = [s.cache.length for s in desk.scheduler.unfinished() if s.cache is not None]
    if blocks is not None:
        assert sum(-(-length // BLOCK) for length in held) <= blocks


def test_a_long_prompt_gets_on_however_many_short_ones_come(tokenizer: Tokenizer) -> None:
    desk = open_desk(tokenizer, max_running=3, prefill_tokens=40)
    draw = random.Random(1)
    long = desk.submit(700, seed=1)
    for step in range(60):
        desk.submit(draw.randint(10, 40), seed=step + 5, max_tokens=3)
        desk.advance()
        if long.output_length:
            break
    assert long.output_length


def test_a_waiting_request_is_served_in_turn_however_many_come_after_it(
    tokenizer: Tokenizer,
) -> None:
    desk = open_desk(tokenizer, max_running=2, blocks=4)
    for seed in range(2):
        desk.submit(200, seed=seed, max_tokens=100)
    desk.advance()
    patient = desk.submit(400, seed=2)
    later = []
    for step in range(200):
        later.append(desk.submit(20, seed=3 + step))
        desk.advance()
        if patient.has_begun:
            break
        assert not any(sequence.has_begun for sequence in later)
    assert patient.has_begun
