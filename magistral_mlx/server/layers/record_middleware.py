"""The outermost layer: a request's id, its line in the log, its count."""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from magistral_mlx.server.answering.metrics import Metrics
from magistral_mlx.server.layers.records import RequestRecord

ID_HEADER = "x-request-id"

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""Ids that are taken over from clients: what can do no harm in a header or a log."""


class RecordMiddleware:
    """Gives every request an id and a record, and writes the record down at its end."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(_request_id(scope), scope["method"], scope["path"])
        scope.setdefault("state", {}).update(record=record, request_id=record.id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = record.id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            record.status = record.status or 500
            self._metrics.request(_route(scope), record.status)
            record.write()


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(ID_HEADER, "")
    return given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"


def _route(scope: Scope) -> str:
    """The route's pattern: what clients write into paths must not make up ever new figures."""
    return str(getattr(scope.get("route"), "path", "other"))
