"""Running the server: load the model while it listens already, stop it without cutting answers."""

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from magistral_mlx.api import Magistral
from magistral_mlx.device import mlx_thread
from magistral_mlx.engine.status import StepReport
from magistral_mlx.errors import EngineError, RequestError, UserError
from magistral_mlx.server.answering.model_slot import ModelSlot, model_names
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.app import create_app, create_service
from magistral_mlx.server.layers.records import scope_record
from magistral_mlx.server.settings import ServerSettings

OnStep = Callable[[StepReport], None]

CANCELLING = 5
"""Seconds beyond the grace that cancelled answers have to tell their clients so."""

logger = logging.getLogger(__name__)


def serve(
    settings: ServerSettings,
    open_model: Callable[[OnStep], Magistral],
    *,
    make_page: Callable[[Magistral], ASGIApp] | None = None,
) -> None:
    """Serve until a signal stops it. The model is closed, and its KV saved, at the end.

    open_model: called in a thread of its own, so that /health can tell that the model loads.
    make_page: makes what is shown at the root, once the model is loaded.

    Raises UserError when the model cannot be opened or the port is taken, EngineError when its
    engine dies while it loads.
    """
    slot = ModelSlot(aliases=settings.aliases)
    service = create_service(slot, settings)
    page = None if make_page is None else LatePage()
    server = GracefulServer(create_app(service, page=page), service)
    sockets = [listening_socket(settings)]
    failures: list[UserError | EngineError] = []

    @mlx_thread()  # the demo is converted when it is opened first
    def load() -> None:
        try:
            model = open_model(lambda report: service.metrics.step(report.seconds))
            slot.fill(model)
            if page is not None and make_page is not None:
                page.app = make_page(model)
            logger.info("%s answers at %s", model_names(model)[0], _address(sockets[0]))
        except (UserError, EngineError) as error:
            failures.append(error)
        finally:
            server.should_exit |= slot.peek() is None

    thread = threading.Thread(target=load, name="magistral-loading")
    thread.start()
    try:
        server.run(sockets=sockets)
    finally:
        thread.join()
        model = slot.peek()
        if model is not None:
            model.close()
    if failures:
        raise failures[0]


class LatePage:
    """The page, which cannot be made before the model is there."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or say that it is too early."""
        if scope["type"] == "http":
            scope_record(scope).is_page = True
        if self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            headers = [(b"content-type", b"text/html; charset=utf-8"), (b"refresh", b"2")]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": b"<p>The model is loading.</p>"})


class GracefulServer(uvicorn.Server):
    """Refuses new requests when it is stopped, and gives those under way some time."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        settings = service.settings
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,  # every request has its own line already
                server_header=False,
                timeout_graceful_shutdown=int(settings.grace) + CANCELLING,
            )
        )
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at a signal, at once at the second Ctrl-C.

        uvicorn's own would raise the signal again at the end, before the model is closed.
        """
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let answers finish or end them, then return."""
        self._service.slot.closing = True
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._service.settings.grace, self._service.cancel_all)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listening_socket(settings: ServerSettings) -> socket.socket:
    """A bound socket, so that a port in use is told before the model is loaded."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        raise RequestError(
            f"{settings.host}:{settings.port} cannot be listened on ({error}): "
            "choose another --port or --host."
        ) from error
    return sock
