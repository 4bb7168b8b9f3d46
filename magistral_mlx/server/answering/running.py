"""A request's answers while they run, and what is left to do when they end."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request as HttpRequest

from magistral_mlx.api import Magistral
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.events import Event, Failed, Finished
from magistral_mlx.reply import Reply, ReplyBuilder
from magistral_mlx.server.answering.answers import Answers, ChoiceEvent
from magistral_mlx.server.errors import ApiError
from magistral_mlx.server.settings import ServerSettings

CLIENT_GONE = 499
"""The status that nobody gets: the client has gone."""


class RunningAnswers:
    """Answers that the engine has been asked for. Close it, and what still runs is cancelled."""

    def __init__(
        self, model: Magistral, count: int, *, settings: ServerSettings, on_close: "OnClose"
    ) -> None:
        """Made by Service.begin, in the event loop."""
        self.model = model
        self.stall_timeout = settings.stall_timeout
        self.count = count
        self.prompt_tokens = 0
        self.builders = [ReplyBuilder() for _ in range(count)]
        self._answers = Answers(count)
        self._quiet = settings.keep_alive
        self._on_close = on_close
        self._sequences: list[Sequence] = []
        self._lock = threading.Lock()
        self._closed = False
        self._failed = False
        self._began = time.perf_counter()

    def submit(self, requests: list[Request]) -> None:
        """Hand the requests to the engine; in a thread, for grammars take a while to compile."""
        self.prompt_tokens = len(requests[0].prompt)
        for choice, request in enumerate(requests):
            sequence = self.model.engine.submit_to(request, self._answers.receiver(choice))
            with self._lock:
                self._sequences.append(sequence)
            if self._closed:  # the client has gone meanwhile
                self.model.engine.cancel(sequence)

    async def batches(self) -> AsyncIterator[list[ChoiceEvent]]:
        """Events as they come; an empty list now and then when there is none for long.

        Raises ApiError when an answer has failed.
        """
        async for batch in self._answers.batches(quiet=self._quiet):
            for choice_event in batch:
                self.builders[choice_event.choice].add(choice_event.event)
                self._check(choice_event)
            yield batch

    async def whole(
        self, http: HttpRequest, *, each: Callable[[Event], object] | None = None
    ) -> list[Reply]:
        """All answers when they are complete; `each` gets the events on the way.

        Raises ApiError when an answer has failed, or nobody waits for it any more.
        """
        work = asyncio.ensure_future(self._drain(each))
        gone = asyncio.ensure_future(disconnected(http))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ApiError(CLIENT_GONE, "The client has gone.")
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
        """Why each has ended; those without an end of their own failed, or nobody waited."""
        otherwise = "failed" if self._failed else "cancelled"
        ends = [builder.end for builder in self.builders]
        return [otherwise if end is None else end.reason for end in ends]

    def cancel(self) -> None:
        """End the answers where they are; their last events still come."""
        with self._lock:
            for sequence in self._sequences:
                self.model.engine.cancel(sequence)

    def close(self) -> None:
        """Cancel what runs and settle what was counted. May be called again."""
        if self._closed:
            return
        self._closed = True
        if any(builder.end is None for builder in self.builders):
            self.cancel()
        self._on_close(self, time.perf_counter() - self._began)

    async def _drain(self, each: Callable[[Event], object] | None) -> None:
        async for batch in self.batches():
            if each is not None:
                for choice_event in batch:
                    each(choice_event.event)

    def _check(self, choice_event: ChoiceEvent) -> None:
        event = choice_event.event
        if isinstance(event, Failed):
            self._failed = True
            if not self.model.status.alive:
                raise ApiError(503, event.message, code="engine_dead")
            raise ApiError(500, event.message, code="model_failed")
        if isinstance(event, Finished) and event.reason == "cancelled" and not self._closed:
            raise ApiError(503, "The server is shutting down.", code="shutting_down")


OnClose = Callable[[RunningAnswers, float], None]
"""Called once with the answers and the seconds that they took."""


async def disconnected(http: HttpRequest) -> None:
    """Return when the client has gone."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
