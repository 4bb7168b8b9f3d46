"""The bridge from the engine's thread to the event loop, and the counting of requests."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import pytest

from magistral_mlx.api import Magistral
from magistral_mlx.events import AnswerText, Event, Finished, ReasoningText, Timings, TokenLogprob
from magistral_mlx.events import Usage as TokenUsage
from magistral_mlx.server.answering.admission import Admission
from magistral_mlx.server.answering.errors import ApiError
from magistral_mlx.server.answering.running import ChoiceEvent, RunningAnswers
from magistral_mlx.server.answering.settings import ServerSettings
from magistral_mlx.server.layers.body import MAX_CONTAINERS, parse_json

END = Finished("stop", TokenUsage(1, 1, 0, 0), Timings(None, None, None, 0.0, 0), False)


def running(count: int, *, keep_alive: float = 5) -> RunningAnswers:
    """Answers without an engine: what they need of the model is for errors."""
    model = cast(Magistral, None)
    return RunningAnswers(model, count, settings=ServerSettings(keep_alive=keep_alive))


def read(send: Callable[[list[Callable[[Event], None]]], None], *, count: int) -> list[ChoiceEvent]:
    """What the loop reads when another thread sends."""

    async def run() -> list[ChoiceEvent]:
        answers = running(count)
        receivers = [answers.receiver(choice) for choice in range(count)]
        thread = threading.Thread(target=send, args=(receivers,))
        thread.start()
        got = [event async for event in answers.events() if event is not None]
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
        answers = running(1)
        receive = answers.receiver(0)
        for text in "ab":
            receive(ReasoningText(text))
        receive(AnswerText("c", (one,)))
        receive(AnswerText("d", (two,)))
        receive(END)
        return [event async for event in answers.events() if event is not None]

    events = [one.event for one in asyncio.run(run())]
    assert events == [ReasoningText("ab"), AnswerText("cd", (one, two)), END]


def test_silence_is_reported_again_and_again() -> None:
    async def run() -> list[ChoiceEvent | None]:
        answers = running(1, keep_alive=0.01)
        events: list[ChoiceEvent | None] = []
        async for event in answers.events():
            events.append(event)
            if len(events) == 3:
                answers.receiver(0)(END)
        return events

    events = asyncio.run(run())
    assert events[:3] == [None, None, None]
    assert events[-1] == ChoiceEvent(0, END)


def test_a_request_of_several_answers_takes_as_many_places() -> None:
    admission = Admission(running=2, queue=1, per_key=None)
    with admission.places("a", 2):
        with pytest.raises(ApiError) as full, admission.places("b", 2):
            pass
        assert (full.value.status_code, full.value.code) == (429, "queue_full")
        with admission.places("b", 1):
            assert admission.active == 3
    with admission.places("b", 2), admission.places("b", 1):
        assert admission.active == 3


def test_places_are_free_again_after_an_error() -> None:
    admission = Admission(running=1, queue=0, per_key=1)
    for _ in range(3):
        with suppress(RuntimeError), admission.places("a", 1):
            assert admission.active == 1
            raise RuntimeError
        assert admission.active == 0


def test_the_time_to_come_back_follows_how_long_answers_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    waits = []
    for seconds in (0.1, 40.0, 10_000.0):
        admission = Admission(running=4, queue=0, per_key=None)
        for _ in range(100):
            with admission.places("a", 1):
                now += seconds
        with pytest.raises(ApiError) as full, admission.places("a", 4), admission.places("a", 1):
            pass
        waits.append(full.value.retry_after)
    assert waits == [1, 10, 60]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * 150 + b"]" * 150, None),
        (b"[" * 250 + b"]" * 250, "nesting_limit"),
        (b'{"a":' * 250, "nesting_limit"),
        (b'"' + b"[" * 500 + b'"', None),
        (rb'["' + b"{" * 500 + rb'\"", 1]', None),
        (b"[" * (MAX_CONTAINERS + 1), "too_many_values"),
        (b"[" + b"1," * 1_000_001 + b"1]", "too_many_values"),
        (b"]]][[", "invalid_json"),
        (b"\xef\xbb\xbf{}", None),
        (b'"abc', "invalid_json"),
    ],
)
def test_json_is_parsed_up_to_a_depth_and_a_number_of_values(body: bytes, code: str | None) -> None:
    assert refusal(body) == code


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
    assert refusal(body) == ("invalid_unicode" if lone else None)


def refusal(body: bytes) -> str | None:
    """The code that a body is refused with."""
    try:
        parse_json(body)
    except ApiError as error:
        return error.code if error.status_code == 400 else f"status {error.status_code}"
    return None
