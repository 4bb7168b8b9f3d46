"""Which names the server may be called by: a web page must not reach it by a name of its own."""

import ipaddress
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from magistral_mlx.server.errors import ApiError
from magistral_mlx.server.layers.refusal import refuse
from magistral_mlx.server.settings import ServerSettings

OWN_NAMES = ("localhost", "127.0.0.1", "::1", "host.docker.internal")
"""Names that nobody else can give an address to."""


class HostCheck:
    """Refuses requests whose Host header is not a name of this server (DNS rebinding)."""

    def __init__(self, app: ASGIApp, *, settings: ServerSettings) -> None:
        self._app = app
        self._any = "*" in settings.allowed_hosts
        self._names = {name.lower() for name in _names(settings)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] in ("http", "websocket") and not self._any:
            host = _without_port(Headers(scope=scope).get("host", ""))
            if host not in self._names and not _is_address(host):
                message = (
                    f"The host {host!r} is not served here: call it by its address, or start it "
                    f"with --allow-host {host or 'NAME'}."
                )
                await refuse(scope, receive, send, ApiError(403, message, code="unknown_host"))
                return
        await self._app(scope, receive, send)


def _names(settings: ServerSettings) -> Iterable[str]:
    machine = socket.gethostname().lower()
    own = (machine, f"{machine.partition('.')[0]}.local")
    return (*OWN_NAMES, settings.host, *own, *settings.allowed_hosts)


def _without_port(host: str) -> str:
    """A Host header without its port; an IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def _is_address(host: str) -> bool:
    # No name, so no name server can have had a hand in it.
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
