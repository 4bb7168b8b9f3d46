"""Host names: which ones reach only this machine, and which ones a server may be called by.

A web page can give any name of its own the address of this machine (DNS rebinding), and so reach a
server on it. The Host header shows which name the browser was given.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refuse = Callable[[Scope, Receive, Send, str], Awaitable[None]]
"""Answers a request that came by the given, unknown host."""

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1", "host.docker.internal")
"""Names that nobody else can give an address to."""


def is_loopback(host: str) -> bool:
    """Whether a name or an address reaches only this machine."""
    address = _address(host.strip("[]"))
    return host.lower().rstrip(".") == "localhost" or (address is not None and address.is_loopback)


def machine_names() -> tuple[str, ...]:
    """The names of this machine in its local network."""
    name = socket.gethostname().lower()
    return name, f"{name.partition('.')[0]}.local"


class HostCheck:
    """An ASGI layer that refuses requests by a name that is not the server's."""

    def __init__(self, app: App, *, names: Iterable[str], refuse: Refuse) -> None:
        """names: accepted besides LOCAL_NAMES and addresses; "*" accepts any."""
        self._app = app
        self._names = {name.lower() for name in (*LOCAL_NAMES, *names)}
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        headers = {name.lower(): value for name, value in scope.get("headers", ())}
        host = _without_port(headers.get(b"host", b"").decode("latin-1"))
        asks = scope["type"] in ("http", "websocket") and "*" not in self._names
        # No name server can have a hand in an address.
        if asks and host not in self._names and _address(host) is None:
            await self._refuse(scope, receive, send, host)
        else:
            await self._app(scope, receive, send)


def _without_port(host: str) -> str:
    """A Host header without its port; an IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
