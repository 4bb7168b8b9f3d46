"""Which paths of the page's server are open, and to whom: an ASGI layer around Gradio."""

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse

from magistral_mlx.app.hosts import App, Receive, Scope, Send
from magistral_mlx.app.scripts import FOLDER as SCRIPTS

GRADIO = "/gradio_api"
OPEN_PATHS = frozenset(
    {
        "/",
        "/config",
        "/favicon.ico",
        "/login",
        "/logout",
        "/theme.css",
        f"{GRADIO}/component_server",
        f"{GRADIO}/login_check",
        f"{GRADIO}/startup-events",
        f"{GRADIO}/token",
        f"{GRADIO}/user",
    }
)
OPEN_FOLDERS = ("/assets/", "/static/", SCRIPTS, f"{GRADIO}/heartbeat/")
"""All paths that the page needs. Gradio's routes that read or keep files are closed."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        # Gradio compiles its templates in the browser.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


async def refuse_host(scope: Scope, receive: Receive, send: Send, host: str) -> None:
    """Answer a request for a host name that is not this machine's."""
    text = f"{host!r} is not served: open the page at its address."
    await PlainTextResponse(text, 400)(scope, receive, send)


class PageGate:
    """Passes on the page's own requests, and refuses all others."""

    def __init__(self, app: App) -> None:
        """app: Gradio's."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 404 or 403, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif not _is_open(scope["path"]):
            await PlainTextResponse("There is nothing here.", 404)(scope, receive, send)
        elif _is_foreign(scope):
            text = "This page answers its own scripts only."
            await PlainTextResponse(text, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send))


def _is_open(path: str) -> bool:
    return (path.rstrip("/") or "/") in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def _is_foreign(scope: Scope) -> bool:
    """Whether another site's script sent it, by the browser's Origin or Sec-Fetch-Site header."""
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    if scope["method"] in ("GET", "HEAD"):
        return False
    origin = headers.get(b"origin")
    if origin is not None:
        return str(urlsplit(origin).netloc) != headers.get(b"host")
    return headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none")


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await send(message)

    return sending
