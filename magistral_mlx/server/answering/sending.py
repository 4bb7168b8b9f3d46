"""Server-sent events, ended with the request that they answer."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping

from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from magistral_mlx.server.answering.running import RunningAnswers
from magistral_mlx.server.errors import ApiError, error_body, request_id

KEEP_ALIVE = ": still working\n\n"
DONE = "data: [DONE]\n\n"

STREAMED: Mapping[int | str, dict[str, object]] = {
    200: {
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "object",
                    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
                }
            }
        }
    }
}
"""What the OpenAPI document says of routes that stream when they are asked to."""

logger = logging.getLogger(__name__)


def event(data: BaseModel, *, name: str | None = None) -> str:
    """One event; what was not set is not in it."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {data.model_dump_json(exclude_unset=True, by_alias=True)}\n\n"


class AnswerStreamResponse(StreamingResponse):
    """A stream about running answers. Whatever ends it, the client or an error, ends them too."""

    def __init__(
        self, answers: RunningAnswers, events: AsyncIterator[str], *, error_name: str | None = None
    ) -> None:
        """error_name: the name of the event that tells of an error."""
        # Proxies must neither keep nor gather what is meant to be seen at once.
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._answers = answers
        self._events = events
        self._error_name = error_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, until its end or the client's."""
        self.body_iterator = self._with_errors(scope)

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._answers.stall_timeout):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            logger.warning("A client has read nothing of its stream for long; it is given up.")
        finally:
            self._answers.close()

    async def _with_errors(self, scope: Scope) -> AsyncIterator[str]:
        """The status is sent already: an error can only be told as an event."""
        try:
            async for text in self._events:
                yield text
        except ApiError as error:
            head = "" if self._error_name is None else f"event: {self._error_name}\n"
            body = error_body(scope["path"], error, request_id(scope))
            yield f"{head}data: {json.dumps(body, ensure_ascii=False)}\n\n"
