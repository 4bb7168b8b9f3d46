"""Request bodies within limits: their size, their time, and how deep their JSON is nested."""

import asyncio
import re
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from magistral_mlx.server.errors import ApiError
from magistral_mlx.server.layers.refusal import refuse
from magistral_mlx.server.settings import ServerSettings

LINGER_BYTES, LINGER_SECONDS = 4_000_000, 2
"""What is still read of a body that is too large."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_BRACKET = re.compile(rb"[\[\]{}]")


class BodyGuard:
    """Reads the whole body before the routes do, and refuses it where it is too much."""

    def __init__(self, app: ASGIApp, *, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                body = await self._read(scope, receive)
        except TimeoutError:
            message = f"The body did not arrive within {self._settings.body_timeout:g} seconds."
            await refuse(scope, receive, send, ApiError(408, message, code="body_timeout"))
            return
        except ApiError as error:
            if error.status == 413:
                await _discard(receive)
            await refuse(scope, receive, send, error)
            return
        if body is not None:  # otherwise the client has gone
            await self._app(scope, _replayed(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        headers, limit = Headers(scope=scope), self._settings.max_body_bytes
        if headers.get("content-encoding", "identity") != "identity":
            raise ApiError(415, "Compressed bodies are not read: send it as it is.")
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
        if nesting(body) > self._settings.max_nesting:
            message_text = f"The JSON is nested deeper than {self._settings.max_nesting} levels."
            raise ApiError(400, message_text, code="nesting_limit")
        if has_lone_surrogate(body):
            message_text = "The JSON has one half of a surrogate pair: it is no text."
            raise ApiError(400, message_text, code="invalid_unicode")
        return bytes(body)


async def _discard(receive: Receive) -> None:
    """Read on a little: a client whose sending breaks does not see why it was refused."""
    left, more = LINGER_BYTES, True
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while more and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                more = message.get("more_body", False)


def has_lone_surrogate(body: bytes | bytearray) -> bool:
    """Whether JSON escapes half a character, which Python takes for text and UTF-8 does not."""
    if _SURROGATE.search(body) is None:
        return False
    return _SURROGATE.search(_PAIR.sub(b"", body.replace(b"\\\\", b""))) is not None


def nesting(body: bytes | bytearray) -> int:
    """How many brackets are open at once in JSON; what is no JSON gives some number."""
    depth = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body is larger than {limit:,} bytes.", code="body_too_large")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Receive the body that was read already, then whatever comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
