"""The answers to one request: events from the engine's thread as one stream in the event loop."""

import asyncio
import collections.abc
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass

from starlette.requests import Request as HttpRequest

from magistral_mlx.api import Magistral
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.events import AnswerText, Event, Failed, Finished, ReasoningText
from magistral_mlx.reply import Reply, ReplyBuilder
from magistral_mlx.server.answering.errors import ApiError
from magistral_mlx.server.answering.settings import ServerSettings

CLIENT_GONE = 499
"""The status of a request whose client has disconnected; nobody receives it."""


@dataclass(frozen=True, slots=True)
class ChoiceEvent:
    """An event of one of a request's answers."""

    choice: int
    event: Event


class RunningAnswers:
    """Answers that the engine works on, and the replies collected so far.

    The engine's thread adds events, and wakes the event loop once for all that have come since the
    loop last looked. Text that has gathered meanwhile is joined, for example while the client reads
    slowly: what waits is bounded by the window.
    """

    def __init__(
        self,
        model: Magistral,
        count: int,
        *,
        settings: ServerSettings,
        at_close: ExitStack | None = None,
    ) -> None:
        """Make it in the event loop that reads it. at_close is closed with the answers."""
        self.model = model
        self.count = count
        self.settings = settings
        self.prompt_tokens = 0
        self.builders = [ReplyBuilder() for _ in range(count)]
        self.at_close = at_close or ExitStack()
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._lock = threading.Lock()  # of the next three, which the engine's thread uses too
        self._waiting: deque[ChoiceEvent] = deque()
        self._awake = False
        self._sequences: list[Sequence] = []
        self._closed = False
        self._failed = False

    def submit(self, requests: collections.abc.Sequence[Request]) -> None:
        """Hand the requests to the engine; in a thread, because grammars take time to compile."""
        self.prompt_tokens = len(requests[0].prompt)
        for choice, request in enumerate(requests):
            sequence = self.model.engine.submit_to(request, self.receiver(choice))
            with self._lock:
                self._sequences.append(sequence)
            if self._closed:  # the client has disconnected meanwhile
                self.model.engine.cancel(sequence)

    def receiver(self, choice: int) -> Callable[[Event], None]:
        """A function that takes one answer's events, from any thread."""

        def receive(event: Event) -> None:
            with self._lock:
                self._waiting.append(ChoiceEvent(choice, event))
                wake, self._awake = not self._awake, True
            if wake:
                self._loop.call_soon_threadsafe(self._arrived.set)

        return receive

    async def events(self) -> AsyncIterator[ChoiceEvent | None]:
        """Events until all answers have ended; None if there is none for long.

        Raises ApiError when an answer has failed.
        """
        left = self.count
        while left:
            try:
                async with asyncio.timeout(self.settings.keep_alive):
                    await self._arrived.wait()
            except TimeoutError:
                yield None
                continue
            for choice_event in self._take():
                self.builders[choice_event.choice].add(choice_event.event)
                self._check(choice_event.event)
                left -= isinstance(choice_event.event, Finished)
                yield choice_event

    async def replies(
        self, http: HttpRequest, *, each: Callable[[Event], object] | None = None
    ) -> list[Reply]:
        """All replies when they are complete; `each` gets the events as they come.

        Raises ApiError when an answer has failed or the client has disconnected.
        """
        work = asyncio.ensure_future(self._drain(each))
        gone = asyncio.ensure_future(_disconnected(http))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ApiError(CLIENT_GONE, "The client has disconnected.")
            work.result()
            return [builder.reply() for builder in self.builders]
        finally:
            work.cancel()
            gone.cancel()
            self.close()

    @property
    def begun(self) -> bool:
        """Whether the engine has taken any of them."""
        return bool(self._sequences)

    def reasons(self) -> list[str]:
        """Why each answer has ended; without an end it failed or was cancelled."""
        otherwise = "failed" if self._failed else "cancelled"
        ends = [builder.end for builder in self.builders]
        return [otherwise if end is None else end.reason for end in ends]

    def cancel(self) -> None:
        """End the answers where they are; their last events still come."""
        with self._lock:
            for sequence in self._sequences:
                self.model.engine.cancel(sequence)

    def close(self) -> None:
        """Cancel what still runs, and close `at_close`. May be called again."""
        if not self._closed and any(builder.end is None for builder in self.builders):
            self.cancel()
        self._closed = True
        self.at_close.close()

    async def _drain(self, each: Callable[[Event], object] | None) -> None:
        async for choice_event in self.events():
            if each is not None and choice_event is not None:
                each(choice_event.event)

    def _take(self) -> list[ChoiceEvent]:
        self._arrived.clear()
        with self._lock:
            self._awake = False
            taken, self._waiting = self._waiting, deque()
        joined: list[ChoiceEvent] = []
        for choice_event in taken:
            both = _join(joined[-1], choice_event) if joined else None
            if both is None:
                joined.append(choice_event)
            else:
                joined[-1] = both
        return joined

    def _check(self, event: Event) -> None:
        if isinstance(event, Failed):
            self._failed = True
            if not self.model.status.alive:
                raise ApiError(503, event.message, code="engine_dead")
            raise ApiError(500, event.message, code="model_failed")
        if isinstance(event, Finished) and event.reason == "cancelled" and not self._closed:
            raise ApiError(503, "The server is shutting down.", code="shutting_down")


def _join(one: ChoiceEvent, other: ChoiceEvent) -> ChoiceEvent | None:
    """Two pieces of the same text as one, or None if they are not."""
    first, second = one.event, other.event
    if one.choice != other.choice or type(first) is not type(second):
        return None
    if isinstance(first, AnswerText | ReasoningText):
        assert isinstance(second, AnswerText | ReasoningText)
        text, logprobs = first.text + second.text, first.logprobs + second.logprobs
        return ChoiceEvent(one.choice, type(first)(text, logprobs))
    return None


async def _disconnected(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
