"""What a caller holds of a request: its events as they come, and the errors of the engine."""

import queue
from collections.abc import Callable, Iterator

from magistral_mlx.events import Event, Failed, Finished


class EngineError(RuntimeError):
    """The engine is closed, or its thread has died."""


class QueueFullError(EngineError):
    """As many requests wait as may."""


class Stream(Iterator[Event]):
    """The events of one request, as they come; the last one is Finished or Failed."""

    def __init__(
        self,
        events: "queue.SimpleQueue[Event]",
        *,
        cancel: Callable[[], None],
        answer_now: Callable[[], None],
    ) -> None:
        """Made by Engine.submit."""
        self._events = events
        self._cancel = cancel
        self._answer_now = answer_now
        self._ended = False

    def __next__(self) -> Event:
        if self._ended:
            raise StopIteration
        event = self._events.get()
        self._ended = isinstance(event, Finished | Failed)
        return event

    def cancel(self) -> None:
        """End the request within one step; its last event then has the reason "cancelled"."""
        self._cancel()

    def answer_now(self) -> None:
        """Close the reasoning within one step, or as soon as there is any; go on to the answer."""
        self._answer_now()
