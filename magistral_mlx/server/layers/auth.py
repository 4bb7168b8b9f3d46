"""Access by key."""

import base64
import hmac
from collections.abc import Sequence
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from magistral_mlx.server.answering.errors import ApiError, refuse

OPEN_PATHS = ("/health",)
NOBODY = "anonymous"


class Auth:
    """Requires a key on every path but /health, if there are keys.

    OpenAI's clients send it as Authorization: Bearer, Anthropic's as x-api-key, and a browser as
    the password of Basic.
    """

    def __init__(self, app: ASGIApp, *, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        client = self._client(given_key(Headers(scope=scope)))
        if client is None and scope["path"] not in OPEN_PATHS:
            message = "A key is missing or wrong: send Authorization: Bearer KEY, or x-api-key."
            await refuse(scope, receive, send, ApiError(401, message, code="invalid_api_key"))
            return
        scope.setdefault("state", {})["client"] = client or NOBODY
        if "record" in scope["state"]:
            scope["state"]["record"].client = client or NOBODY
        await self._app(scope, receive, send)

    def _client(self, given: bytes) -> str | None:
        """The name of a key, by its number; takes as long for a wrong key as for a right one."""
        if not self._keys:
            return NOBODY
        # Digests have one length, so the time does not show the length of a key either.
        digest = sha256(given).digest()
        matches = [hmac.compare_digest(digest, key) for key in self._keys]
        return f"key-{matches.index(True) + 1}" if any(matches) else None


def given_key(headers: Headers) -> bytes:
    """The key in a request, or b""."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return headers.get("x-api-key", "").encode("latin-1")
