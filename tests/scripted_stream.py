"""A model whose answers wait for the test: each step of a stream is let through by hand."""

import queue
import threading
from collections.abc import Iterator, Sequence

from magistral_mlx.events import Event, Failed, Finished
from magistral_mlx.options import GenerationOptions
from magistral_mlx.text.conversation import Message
from tests.scripted_model import finished


class ScriptedStream(Iterator[Event]):
    """Gives what `send` was given; `cancel` ends it as the engine does."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._ended = False
        self.cancelled = threading.Event()
        self.answered_now = 0

    def send(self, *events: Event | BaseException) -> None:
        for event in events:
            self._events.put(event)

    def __next__(self) -> Event:
        if self._ended:
            raise StopIteration
        event = self._events.get()
        if isinstance(event, BaseException):
            raise event
        self._ended = isinstance(event, Finished | Failed)
        return event

    def cancel(self) -> None:
        if not self.cancelled.is_set():
            self.cancelled.set()
            self.send(finished("cancelled"))

    def answer_now(self) -> None:
        self.answered_now += 1


class SteppedModel:
    """Opens a ScriptedStream for each question, and remembers what it was asked.

    An exception among `refusals` is raised in place of that stream.
    """

    name = "stepped"

    def __init__(self, *refusals: BaseException | None) -> None:
        self._refusals = list(refusals)
        self.streams: list[ScriptedStream] = []
        self.asked: list[tuple[list[Message], GenerationOptions]] = []

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> ScriptedStream:
        refusal = self._refusals.pop(0) if self._refusals else None
        if refusal is not None:
            raise refusal
        self.asked.append((list(messages), options))
        self.streams.append(ScriptedStream())
        return self.streams[-1]
