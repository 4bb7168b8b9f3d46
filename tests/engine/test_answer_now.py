"""Reasoning that its reader closes: at any moment, within a step, and the answer follows."""

from collections.abc import Iterator
from dataclasses import replace
from queue import SimpleQueue

import pytest

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.events import AnswerText, Event, Failed, Finished, ReasoningText
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import write_hf
from tests.tiny_engine import prompt, run, with_options

ENDLESS = Request(
    prompt(40),
    "reasoning",
    options=OutputOptions(
        sampling=SamplingParams(temperature=2, seed=3),
        max_tokens=120,
        ignore_eos=True,
        stop_repetition=False,
    ),
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    checkpoint = open_checkpoint(write_hf(tmp_path_factory.mktemp("tiny") / "tiny"))
    engine = Engine(checkpoint, Tokenizer.open(checkpoint.folder), window=2000, max_running=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def close_ids(engine: Engine) -> list[int]:
    return list(engine._tokenizer.think_close_ids)


@pytest.mark.parametrize("pieces", [1, 7])
def test_the_reasoning_ends_within_two_tokens_and_the_rest_is_answer(
    engine: Engine, close_ids: list[int], pieces: int
) -> None:
    events = SimpleQueue[Event]()
    sequence = engine.submit_to(ENDLESS, events.put)
    seen = 0
    while seen < pieces:
        seen += isinstance(events.get(timeout=60), ReasoningText)
    thought = sequence.output_length
    engine.answer_now(sequence)
    end = last(events)
    output = sequence.ids[40:]
    at = find(output, close_ids)
    assert at <= thought + 40  # the test's own thread may be slow to ask
    assert end.reasoning_closed_by_force
    assert end.usage.completion_tokens == 120
    assert end.usage.reasoning_tokens <= at
    # Up to there the tokens are those that it draws undisturbed, and so is its randomness after.
    [plain] = run(engine, ENDLESS)
    assert output[:at] == plain.tokens[:at]
    assert len(output) == 120
    [budgeted] = run(engine, with_options(ENDLESS, thinking_budget=at))
    assert output == budgeted.tokens


def test_reasoning_that_is_not_there_yet_is_closed_as_soon_as_it_is(
    engine: Engine, close_ids: list[int]
) -> None:
    others = [engine.submit(replace(ENDLESS, prompt=prompt(40, seed=i))) for i in (1, 2)]
    events = SimpleQueue[Event]()
    waiting = engine.submit_to(ENDLESS, events.put)  # both places are taken
    engine.answer_now(waiting)
    for other in others:
        other.cancel()
    assert last(events).reasoning_closed_by_force
    assert waiting.ids[40 : 40 + len(close_ids)] == close_ids


def test_an_answer_goes_on_as_if_nothing_had_been_asked(engine: Engine) -> None:
    answering = replace(with_options(ENDLESS, max_tokens=60), state="answer")
    stream = engine.submit(answering)
    events = [next(stream)]
    stream.answer_now()
    events += list(stream)
    end = events[-1]
    assert isinstance(end, Finished)
    assert not end.reasoning_closed_by_force
    text = "".join(event.text for event in events if isinstance(event, AnswerText))
    assert text == run(engine, answering)[0].answer
    stream.answer_now()  # and nothing when it has ended


def last(events: SimpleQueue[Event]) -> Finished:
    while not isinstance(event := events.get(timeout=60), Finished | Failed):
        pass
    assert isinstance(event, Finished)
    return event


def find(tokens: list[int], part: list[int]) -> int:
    return next(i for i in range(len(tokens)) if tokens[i : i + len(part)] == part)
