"""Bodies of responses: a pydantic model as JSON, or running answers as server-sent events."""

import asyncio
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping

from fastapi.responses import Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from magistral_mlx.events import Event
from magistral_mlx.server.answering.errors import ApiError, error_body
from magistral_mlx.server.answering.running import RunningAnswers

Fields = Mapping[str, object]
"""Part of a body, by the names of an API."""

DONE = "data: [DONE]\n\n"

_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
STREAMED: Mapping[int | str, dict[str, object]] = {
    200: {"content": {"text/event-stream": {"schema": _EVENT}}}
}
"""Responses of routes that can stream, in the OpenAPI document."""

logger = logging.getLogger(__name__)


class ModelResponse(Response):
    """The fields that were set of a model, as JSON."""

    media_type = "application/json"

    def __init__(self, model: BaseModel) -> None:
        super().__init__(model.model_dump_json(exclude_unset=True, by_alias=True))


def sse(data: BaseModel, *, name: str | None = None) -> str:
    """A server-sent event with the fields that were set."""
    return _sse(data.model_dump_json(exclude_unset=True, by_alias=True), name)


class StreamFormat(ABC):
    """Writes running answers as one API's server-sent events."""

    keep_alive = ": still working\n\n"
    error_name: str | None = None
    """The name of the event that reports an error."""

    def __init__(self, answers: RunningAnswers) -> None:
        self.answers = answers

    def begin(self) -> Iterable[str]:
        """The text before the first event."""
        return ()

    @abstractmethod
    def write(self, choice: int, event: Event) -> Iterable[str]:
        """The text of one event of an answer."""

    def end(self) -> Iterable[str]:
        """The text after all answers."""
        return ()

    def fail(self, scope: Scope, error: ApiError) -> Iterable[str]:
        """The text that reports an error; the status 200 was sent before."""
        body = json.dumps(error_body(scope, error), ensure_ascii=False)
        yield _sse(body, self.error_name)


class AnswerStreamResponse(StreamingResponse):
    """A stream of running answers."""

    def __init__(self, form: StreamFormat) -> None:
        # Proxies must not buffer the stream.
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__((), media_type="text/event-stream", headers=headers)
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, until it ends or the client disconnects."""
        self.body_iterator = self._texts(scope)
        seconds = self._form.answers.settings.stall_timeout

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(seconds):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            logger.warning("A client read nothing for %g seconds; its stream was closed.", seconds)

    async def _texts(self, scope: Scope) -> AsyncIterator[str]:
        form = self._form
        try:
            for text in form.begin():
                yield text
            async for choice_event in form.answers.events():
                if choice_event is None:
                    yield form.keep_alive
                    continue
                for text in form.write(choice_event.choice, choice_event.event):
                    yield text
            for text in form.end():
                yield text
        except ApiError as error:
            for text in form.fail(scope, error):
                yield text


def _sse(data: str, name: str | None) -> str:
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {data}\n\n"
