"""The bridge from the engine's thread to the event loop, and the counting of requests."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from magistral_mlx.events import AnswerText, Event, Finished, ReasoningText, Timings, TokenLogprob
from magistral_mlx.events import Usage as TokenUsage
from magistral_mlx.server.answering.admission import Admission
from magistral_mlx.server.answering.answers import Answers, ChoiceEvent
from magistral_mlx.server.errors import ApiError
from magistral_mlx.server.layers.body import has_lone_surrogate, nesting

END = Finished("stop", TokenUsage(1, 1, 0, 0), Timings(None, None, None, 0.0, 0), False)


def read(send: Callable[[list[Callable[[Event], None]]], None], *, count: int) -> list[ChoiceEvent]:
    """What the loop reads when another thread sends."""

    async def run() -> list[ChoiceEvent]:
        answers = Answers(count)
        receivers = [answers.receiver(choice) for choice in range(count)]
        thread = threading.Thread(target=send, args=(receivers,))
        thread.start()
        got = [event async for batch in answers.batches(quiet=5) for event in batch]
        thread.join()
        return got

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_no_event_is_lost_or_out_of_order_whatever_the_threads_do() -> None:
    def send(receivers: list[Callable[[Event], None]]) -> None:
        def one(choice: int) -> None:
            for number in range(3_000):
                receivers[choice](AnswerText(f"{number},"))
            receivers[choice](END)

        threads = [threading.Thread(target=one, args=(choice,)) for choice in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    got = read(send, count=3)
    whole = "".join(f"{number}," for number in range(3_000))
    for choice in range(3):
        events = [one.event for one in got if one.choice == choice]
        assert "".join(e.text for e in events if isinstance(e, AnswerText)) == whole
        assert events[-1] == END


def test_text_that_has_gathered_comes_as_one_piece_with_all_its_logprobs() -> None:
    one, two = (TokenLogprob(number, b"x", -1.0) for number in (1, 2))

    async def run() -> list[ChoiceEvent]:
        answers = Answers(1)
        receive = answers.receiver(0)
        for text in "ab":
            receive(ReasoningText(text))
        receive(AnswerText("c", (one,)))
        receive(AnswerText("d", (two,)))
        receive(END)
        return [event async for batch in answers.batches(quiet=5) for event in batch]

    events = [one.event for one in asyncio.run(run())]
    assert events == [ReasoningText("ab"), AnswerText("cd", (one, two)), END]


def test_silence_gives_empty_batches() -> None:
    async def run() -> list[list[ChoiceEvent]]:
        answers = Answers(1)
        batches = []
        async for batch in answers.batches(quiet=0.01):
            batches.append(batch)
            if len(batches) == 3:
                answers.receiver(0)(END)
        return batches

    batches = asyncio.run(run())
    assert batches[:3] == [[], [], []]
    assert batches[-1] == [ChoiceEvent(0, END)]


def test_a_request_of_several_answers_counts_as_many() -> None:
    admission = Admission(running=2, queue=1, per_key=None)
    admission.enter("a", 2)
    with pytest.raises(ApiError) as full:
        admission.enter("b", 2)
    assert (full.value.status, full.value.code) == (429, "queue_full")
    admission.enter("b", 1)
    admission.leave("a", 2, seconds=1)
    admission.enter("b", 2)
    assert admission.active == 3


def test_the_time_to_come_back_follows_how_long_answers_take() -> None:
    waits = []
    for seconds in (0.1, 40.0, 10_000.0):
        admission = Admission(running=4, queue=0, per_key=None)
        for _ in range(100):
            admission.enter("a", 1)
            admission.leave("a", 1, seconds=seconds)
        admission.enter("a", 4)
        with pytest.raises(ApiError) as full:
            admission.enter("a", 1)
        waits.append(full.value.retry_after)
    assert waits == [1, 10, 60]


@pytest.mark.parametrize(
    ("body", "depth"),
    [(b"{}", 1), (b"[[1],[2]]", 2), (b'"[[["', 0), (rb'["\"[[", {"a": [1]}]', 3), (b"]]][[", 0)],
)
def test_nesting_is_that_of_the_json_not_of_its_strings(body: bytes, depth: int) -> None:
    assert nesting(body) == depth


@pytest.mark.parametrize(
    ("body", "lone"),
    [
        (rb'"\ud83d\ude00"', False),
        (rb'"\ud83d"', True),
        (rb'"\ude00\ud83d"', True),
        (rb'"\\ud83d"', False),
        (rb'"\\\ud83d"', True),
        (rb'"\ud83d\\ude00"', True),
        (rb'"\u00e9"', False),
    ],
)
def test_half_characters_are_seen(body: bytes, lone: bool) -> None:
    assert has_lone_surrogate(body) == lone
