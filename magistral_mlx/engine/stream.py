"""What a caller holds of a request: its events as they come, and the errors of the engine."""

import queue
from collections.abc import Callable, Iterator

from magistral_mlx.events import AnswerText, Event, Failed, Finished, ToolCallEvent


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


class AnswerStream(Iterator[Event]):
    """Events of one answer as they come; the last is Finished or Failed.

    Closing it, or dropping it before its end, cancels the answer. All but iterating may be done
    from any thread.
    """

    def __init__(self, stream: Stream, on_stop: Callable[[str, Finished], None]) -> None:
        """Made by Magistral.stream. on_stop gets an answer that has come to its own end."""
        self._stream = stream
        self._on_stop = on_stop
        self._answer: list[str] = []
        self._called = False  # then results of tools come next, and the reasoning is kept

    def __next__(self) -> Event:
        event = next(self._stream)
        if isinstance(event, AnswerText):
            self._answer.append(event.text)
        elif isinstance(event, ToolCallEvent):
            self._called = True
        elif isinstance(event, Finished) and event.reason == "stop" and not self._called:
            self._on_stop("".join(self._answer), event)
        return event

    def answer_now(self) -> None:
        """Close the reasoning within one step, or as soon as there is any; go on to the answer."""
        self._stream.answer_now()

    def cancel(self) -> None:
        """End the answer within one step; its last event then has the reason "cancelled"."""
        self._stream.cancel()

    close = cancel
    __del__ = cancel
