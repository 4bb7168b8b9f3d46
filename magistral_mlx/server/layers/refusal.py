"""Refusing a request before it comes to a route."""

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from magistral_mlx.server.errors import ApiError, error_response, request_id

POLICY_VIOLATION = 1008
"""The code that a WebSocket is closed with."""


async def refuse(scope: Scope, receive: Receive, send: Send, error: ApiError) -> None:
    """Answer with an error instead of passing the request on."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        return
    response = error_response(scope["path"], error, request_id=request_id(scope))
    if error.status in (408, 413):
        # The rest of the body is not going to be read.
        response.headers["Connection"] = "close"
    if error.status == 401:
        # A browser that opens the page asks its user then: any name, and the key as password.
        is_browser = "text/html" in Headers(scope=scope).get("accept", "")
        response.headers["WWW-Authenticate"] = "Basic" if is_browser else "Bearer"
    await response(scope, receive, send)
