"""Request bodies within limits: bytes, seconds, and what the JSON holds."""

import asyncio
from codecs import BOM_UTF8
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from magistral_mlx.server.answering.errors import ApiError, refuse
from magistral_mlx.server.answering.settings import ServerSettings

LINGER_BYTES, LINGER_SECONDS = 4_000_000, 2
"""What is still read of a body that is too large."""
LARGE = 64_000
"""Bytes of JSON that are parsed in a thread."""
MAX_CONTAINERS, MAX_VALUES = 50_000, 1_000_000
"""Opening brackets and commas in a body, those in texts included. A prompt that fits the window has
fewer, and parsing and validating hold up all threads of the process."""


class BodyLimit:
    """Reads the whole body before the routes do, and refuses one that is too large or too slow."""

    def __init__(self, app: ASGIApp, *, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        seconds = self._settings.body_timeout
        try:
            async with asyncio.timeout(seconds):
                body = await self._read(scope, receive)
        except TimeoutError:
            message = f"The body did not arrive within {seconds:g} seconds: send it again."
            await refuse(scope, receive, send, ApiError(408, message, code="body_timeout"))
        except ApiError as error:
            await _discard(receive)
            await refuse(scope, receive, send, error)
        else:
            if body is not None:  # otherwise the client has disconnected
                await self._app(scope, _replayed(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        headers, limit = Headers(scope=scope), self._settings.max_body_bytes
        if headers.get("content-encoding", "identity") != "identity":
            raise ApiError(415, "Compressed bodies are not supported: send it uncompressed.")
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit:
                raise _too_large(limit)
        return bytes(body)


class JsonRoute(APIRoute):
    """A route whose JSON body is parsed within limits."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with a request that parses so."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handle_json


class _JsonRequest(Request):
    async def json(self) -> object:
        """The parsed body. Raises ApiError (400) if it is not JSON or beyond the limits."""
        body = await self.body()
        if len(body) < LARGE:
            return parse_json(body)
        return await asyncio.to_thread(parse_json, body)


def parse_json(body: bytes) -> object:
    """JSON as Python objects. Raises ApiError (400) for invalid JSON and for too many values."""
    for what, count, limit in (
        ("brackets", body.count(b"[") + body.count(b"{"), MAX_CONTAINERS),
        ("commas", body.count(b","), MAX_VALUES),
    ):
        if count > limit:
            message = f"The JSON has {count:,} {what}; the limit is {limit:,}: send less."
            raise ApiError(400, message, code="too_many_values")
    try:
        return from_json(body.removeprefix(BOM_UTF8))
    except ValueError as error:
        reason = str(error)
        if "recursion limit" in reason:
            message = f"The JSON is nested too deep ({reason}): flatten it."
            raise ApiError(400, message, code="nesting_limit") from error
        # Half a surrogate pair is no character: UTF-8 could not encode it in the answer.
        code = "invalid_unicode" if "hex escape" in reason else "invalid_json"
        raise ApiError(400, f"The body is not JSON: {reason}.", code=code) from error


async def _discard(receive: Receive) -> None:
    """Read on a little: a client that cannot send does not see why it was refused."""
    left, more = LINGER_BYTES, True
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while more and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                more = message.get("more_body", False)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body is larger than {limit:,} bytes.", code="body_too_large")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Receive the body that was read, then what follows."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
