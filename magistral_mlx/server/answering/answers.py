"""Running answers: from the engine's thread to the server's event loop."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from magistral_mlx.events import AnswerText, Event, Failed, Finished, ReasoningText


@dataclass(frozen=True, slots=True)
class ChoiceEvent:
    """An event of one of the answers to a request."""

    choice: int
    event: Event


class Answers:
    """The events of a request's answers, in one stream.

    The engine's thread puts them in; the event loop is woken once for all that have come since it
    looked last. Pieces of text that have gathered meanwhile, say because the client reads slowly,
    are joined. What waits is bounded by the window: a few tokens' worth of text each.
    """

    def __init__(self, count: int) -> None:
        """Make it in the event loop that will read it."""
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting: deque[ChoiceEvent] = deque()
        self._awake = False
        self._running = count

    def receiver(self, choice: int) -> Callable[[Event], None]:
        """What the engine is given to send one answer's events to, from any thread."""

        def receive(event: Event) -> None:
            with self._lock:
                self._waiting.append(ChoiceEvent(choice, event))
                wake, self._awake = not self._awake, True
            if wake:
                self._loop.call_soon_threadsafe(self._arrived.set)

        return receive

    async def batches(self, *, quiet: float) -> AsyncIterator[list[ChoiceEvent]]:
        """What has come since the last time, until all answers have ended.

        An empty list after so many seconds without an event.
        """
        while self._running > 0:
            try:
                async with asyncio.timeout(quiet):
                    await self._arrived.wait()
            except TimeoutError:
                yield []
                continue
            yield self._take()

    def _take(self) -> list[ChoiceEvent]:
        self._arrived.clear()
        with self._lock:
            self._awake = False
            taken, self._waiting = self._waiting, deque()
        joined: list[ChoiceEvent] = []
        for choice_event in taken:
            self._running -= isinstance(choice_event.event, Finished | Failed)
            last = _join(joined[-1], choice_event) if joined else None
            if last is None:
                joined.append(choice_event)
            else:
                joined[-1] = last
        return joined


def _join(one: ChoiceEvent, other: ChoiceEvent) -> ChoiceEvent | None:
    """Two pieces of the same text as one, or None when they are not."""
    if one.choice != other.choice:
        return None
    first, second = one.event, other.event
    if isinstance(first, AnswerText) and isinstance(second, AnswerText):
        text, logprobs = first.text + second.text, first.logprobs + second.logprobs
        return ChoiceEvent(one.choice, AnswerText(text, logprobs))
    if isinstance(first, ReasoningText) and isinstance(second, ReasoningText):
        text, logprobs = first.text + second.text, first.logprobs + second.logprobs
        return ChoiceEvent(one.choice, ReasoningText(text, logprobs))
    return None
