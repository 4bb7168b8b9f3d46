"""The log: one line of JSON a request, without the text of messages and answers."""

import json
import logging
import string
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from secrets import token_hex

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from magistral_mlx.events import Finished

ID_HEADER = "x-request-id"
ID_CHARACTERS = frozenset(string.ascii_letters + string.digits + "._:-")
"""Of ids that clients may choose: harmless in a header and in a log."""

logger = logging.getLogger("magistral_mlx.server.requests")


@dataclass(slots=True)
class RequestRecord:
    """What the log says of a request. is_page: the page's request, not the API's."""

    id: str
    method: str
    path: str
    client: str = "-"
    status: int = 0
    is_page: bool = False
    details: dict[str, object] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def add_work(self, ends: Sequence[Finished], reasons: Sequence[str]) -> None:
        """Add the tokens and times of the finished answers, and why each answer ended."""
        first = ends[0] if ends else None
        self.details |= {
            "prompt_tokens": first.usage.prompt_tokens if first else None,
            "cached_tokens": first.usage.cached_tokens if first else None,
            "reasoning_tokens": sum(end.usage.reasoning_tokens for end in ends),
            "completion_tokens": sum(end.usage.completion_tokens for end in ends),
            "first_token_ms": _milliseconds(
                first.timings.seconds_to_first_token if first else None
            ),
            "reason": ",".join(reasons),
        }

    def write(self) -> None:
        """Write the line."""
        line = {
            "id": self.id,
            "method": self.method,
            "path": self.path,
            "client": self.client,
            "status": self.status,
            "ms": _milliseconds(time.perf_counter() - self.started),
        }
        # The page polls several times a second.
        quiet = self.is_page and self.status < 400
        text = json.dumps(line | self.details, ensure_ascii=False)
        logger.log(logging.DEBUG if quiet else logging.INFO, text)


class RecordLayer:
    """The outermost layer: gives a request its id, logs and counts it when it ends."""

    def __init__(self, app: ASGIApp, *, count: Callable[[str, int], None]) -> None:
        """count: called with the route and the status of each request."""
        self._app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(_request_id(scope), scope["method"], scope["path"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = record.id
            await send(message)

        try:
            with ExitStack() as at_end:
                state = {"record": record, "request_id": record.id, "at_end": at_end}
                scope.setdefault("state", {}).update(state)
                await self._app(scope, receive, send_with_id)
        finally:
            record.status = record.status or 500
            # The pattern of the route: paths that clients make up would be counters without end.
            self._count(str(getattr(scope.get("route"), "path", "other")), record.status)
            record.write()


def record_of(scope: Scope) -> RequestRecord:
    """The record of a request."""
    record = scope["state"]["record"]
    assert isinstance(record, RequestRecord)
    return record


def at_end(scope: Scope) -> ExitStack:
    """What is closed when a request ends: after its response, or when anything fails before."""
    stack = scope["state"]["at_end"]
    assert isinstance(stack, ExitStack)
    return stack


def configure_logging() -> None:
    """Log to standard error; for the program that serves, not for tests or libraries."""
    text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=text)
    # The lines of requests are JSON, without a prefix.
    logger.addHandler(logging.StreamHandler())
    logger.propagate = False


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(ID_HEADER, "")
    is_safe = 1 <= len(given) <= 128 and ID_CHARACTERS.issuperset(given)
    return given if is_safe else f"req_{token_hex(12)}"


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)
