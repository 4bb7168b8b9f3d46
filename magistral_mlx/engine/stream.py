"""The events of one request as its caller iterates over them."""

import queue
from collections.abc import Callable, Iterator

from magistral_mlx.events import AnswerText, Event, Failed, Finished, ToolCallEvent


class AnswerStream(Iterator[Event]):
    """Events of one answer as they arrive; the last is Finished or Failed.

    Closing the stream, or dropping it before its end, cancels the answer. One thread iterates;
    the other methods may be called from any thread.
    """

    def __init__(
        self,
        events: "queue.SimpleQueue[Event]",
        *,
        cancel: Callable[[], None],
        answer_now: Callable[[], None],
        on_stop: Callable[[str, Finished], None],
    ) -> None:
        """Made by Engine.submit. on_stop gets the text and the end of an answer that is complete.

        An answer with tool calls is not: their results come next.
        """
        self._events = events
        self._cancel = cancel
        self._answer_now = answer_now
        self._on_stop = on_stop
        self._answer: list[str] = []
        self._called = False
        self._ended = False

    def __next__(self) -> Event:
        if self._ended:
            raise StopIteration
        event = self._events.get()
        self._ended = isinstance(event, Finished | Failed)
        if isinstance(event, AnswerText):
            self._answer.append(event.text)
        elif isinstance(event, ToolCallEvent):
            self._called = True
        elif isinstance(event, Finished) and event.reason == "stop" and not self._called:
            self._on_stop("".join(self._answer), event)
        return event

    def answer_now(self) -> None:
        """Close the reasoning within one step, or as soon as it begins; then the answer follows."""
        self._answer_now()

    def cancel(self) -> None:
        """End the answer within one step; its last event then has the reason "cancelled"."""
        self._cancel()

    close = cancel
    __del__ = cancel
