"""Runs requests through the engine on the tiny random model, for tests of what shapes an output."""

from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.events import AnswerText, Event, Failed, Finished, ReasoningText, TokenLogprob
from tests.sample_checkpoints import VOCAB


@dataclass(frozen=True)
class Output:
    tokens: list[int]
    events: list[Event]

    @property
    def end(self) -> Finished:
        assert isinstance(self.events[-1], Finished), self.events[-1]
        return self.events[-1]

    @property
    def reasoning(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, ReasoningText))

    @property
    def answer(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, AnswerText))

    @property
    def logprobs(self) -> list[TokenLogprob]:
        texts = [e for e in self.events if isinstance(e, AnswerText | ReasoningText)]
        return [logprob for event in texts for logprob in event.logprobs]


def prompt(length: int, *, seed: int = 0) -> tuple[int, ...]:
    return tuple(1000 + (7 * i + 13 * seed + i * i) % (VOCAB - 1000) for i in range(length))


def run(engine: Engine, *requests: Request) -> list[Output]:
    """Submit all at once, wait for all."""
    queues = [SimpleQueue[Event]() for _ in requests]
    sequences = [engine.submit_to(r, q.put) for r, q in zip(requests, queues, strict=True)]
    events = [_wait(q) for q in queues]
    return [
        Output(sequence.ids[len(sequence.request.prompt) :], got)
        for sequence, got in zip(sequences, events, strict=True)
    ]


def with_options(request: Request, **options: Any) -> Request:
    """The request with these options changed."""
    return replace(request, options=replace(request.options, **options))


def _wait(events: SimpleQueue[Event]) -> list[Event]:
    got: list[Event] = []
    while not got or not isinstance(got[-1], Finished | Failed):
        got.append(events.get(timeout=60))
    return got
