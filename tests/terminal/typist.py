"""A model that types what it was given, at a chosen speed: for outputs that no test could get
the real one to write."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import cast

from magistral_mlx import Magistral
from magistral_mlx.engine.status import EngineStatus
from magistral_mlx.events import AnswerText, Event, PrefillProgress, ReasoningText
from magistral_mlx.machine import mac_limit
from magistral_mlx.memory.plan import magistral_small, plan
from magistral_mlx.options import GenerationOptions
from magistral_mlx.text.conversation import Message
from tests.scripted_model import finished

GIB = 1 << 30


class TypistStream:
    """Gives its events one by one, a pause before each."""

    def __init__(self, events: Sequence[Event], pause: float) -> None:
        self._events = events
        self._pause = pause
        self._cancelled = threading.Event()

    def __iter__(self) -> Iterator[Event]:
        due = time.monotonic()
        for event in self._events:
            due += self._pause
            if self._cancelled.wait(max(0.0, due - time.monotonic())):
                yield finished("cancelled")
                return
            yield event

    def cancel(self) -> None:
        self._cancelled.set()

    def answer_now(self) -> None:
        """Nothing: what it types is fixed."""


class Typist:
    """What the page asks of an open model."""

    name = "typist"
    window = 40_960

    def __init__(
        self, reasoning: str, answer: str, *, pause: float = 0.002, piece: int = 4
    ) -> None:
        self.plan = plan(magistral_small(), mac_limit(32 * GIB))
        self.status = EngineStatus(
            alive=True,
            running=0,
            waiting=0,
            kv_running_bytes=0,
            kv_stored_bytes=2 * GIB,
            kv_limit_bytes=None,
        )
        self._pause = pause
        self._events: list[Event] = [PrefillProgress(200, 200)]
        self._events += [ReasoningText(text) for text in _pieces(reasoning, piece)]
        self._events += [AnswerText(text) for text in _pieces(answer, piece)]
        self._events.append(finished())

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> TypistStream:
        return TypistStream(self._events, self._pause)

    def prompt_tokens(self, messages: Sequence[Message], options: GenerationOptions) -> int:
        return sum(len(message.content.split()) for message in messages)

    def close(self) -> None:
        """Nothing is open."""


def as_magistral(typist: Typist) -> Magistral:
    """The page holds a Magistral, and uses of it what a typist has."""
    return cast(Magistral, typist)


def _pieces(text: str, length: int) -> list[str]:
    return [text[at : at + length] for at in range(0, len(text), length)]
