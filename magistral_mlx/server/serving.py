"""Running the server: it listens while the model loads, and lets answers finish when it stops."""

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from magistral_mlx.api import Magistral
from magistral_mlx.device import mlx_thread
from magistral_mlx.engine.status import StepReport
from magistral_mlx.errors import EngineError, RequestError, UserError
from magistral_mlx.folders import state_folder
from magistral_mlx.opening import Opening, choose_model, remember_model
from magistral_mlx.ranks.launch import is_follower
from magistral_mlx.server.answering.model_slot import ModelSlot, model_names
from magistral_mlx.server.answering.records import configure_logging, record_of
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.answering.settings import ServerSettings
from magistral_mlx.server.app import create_app, create_service

OnStep = Callable[[StepReport], None]

CANCELLING = 5
"""Seconds after the grace in which cancelled answers report their end."""

logger = logging.getLogger(__name__)


def serve_chosen(
    name: str | None,
    opening: Opening,
    settings: ServerSettings,
    *,
    page: bool = False,
    page_folder: Path | None = None,
) -> None:
    """Serve the named model, or the last one used, and remember it.

    Requests may use this name too.

    page: serve the page at the root. page_folder: keeps its conversations; None: in memory only.

    Raises CheckpointError, before listening, if there is no such model; otherwise as `serve`.
    """
    configure_logging()
    choice = choose_model(name, state=state_folder())
    settings = replace(settings, aliases=(*settings.aliases, name or choice))
    if is_follower(os.environ):
        opening.open(choice)  # returns when rank 0, which serves, has ended

    def open_model(on_step: OnStep) -> Magistral:
        model = opening.open(choice, on_step=on_step)
        remember_model(choice, state=state_folder())
        return model

    with ExitStack() as closing:

        def make_page(model: Magistral) -> ASGIApp:
            # The page is an extra, and takes seconds to import.
            from magistral_mlx.app.launch import page_app
            from magistral_mlx.app.panels.services import open_services

            services = open_services(data_folder=page_folder, open_model=opening.open)
            closing.enter_context(services)
            services.models.adopt(choice, model)
            return page_app(services)

        serve(settings, open_model, make_page=make_page if page else None)


def serve(
    settings: ServerSettings,
    open_model: Callable[[OnStep], Magistral],
    *,
    make_page: Callable[[Magistral], ASGIApp] | None = None,
) -> None:
    """Serve until a signal stops it, then close the model, which saves its KV.

    open_model: called in a thread, so that /health can answer meanwhile.
    make_page: makes the page at the root, when the model is loaded.

    Raises UserError if the model cannot be opened or the port is in use, and EngineError if the
    engine fails while it loads.
    """
    slot = ModelSlot(aliases=settings.aliases)
    service = create_service(slot, settings)
    page = None if make_page is None else LatePage()
    server = GracefulServer(create_app(service, page=page), service)
    sockets = [listening_socket(settings)]
    failures: list[UserError | EngineError] = []

    @mlx_thread()  # the demo model is converted when it is first opened
    def load() -> None:
        try:
            model = open_model(lambda report: service.metrics.step(report.seconds))
            slot.model = model
            if page is not None and make_page is not None:
                page.app = make_page(model)
            logger.info("Serving %s at %s", model_names(model)[0], _address(sockets[0]))
        except (UserError, EngineError) as error:
            failures.append(error)
        finally:
            server.should_exit |= slot.model is None

    thread = threading.Thread(target=load, name="magistral-loading")
    thread.start()
    try:
        server.run(sockets=sockets)
    finally:
        thread.join()
        if slot.model is not None:
            slot.model.close()
    if failures:
        raise failures[0]


class LatePage:
    """The page, which cannot be made before the model is loaded."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that the model is loading."""
        if scope["type"] == "http":
            record_of(scope).is_page = True
        if self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            headers = [(b"content-type", b"text/html; charset=utf-8"), (b"refresh", b"2")]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": b"<p>The model is loading.</p>"})


class GracefulServer(uvicorn.Server):
    """Refuses new requests when it stops, and gives running ones time to finish."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,  # every request has a line of ours
                server_header=False,
                timeout_graceful_shutdown=int(service.settings.grace) + CANCELLING,
            )
        )
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at a signal, and at once at the second Ctrl-C.

        uvicorn's own handler would raise the signal again at the end, before the model is closed.
        """
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, wait for answers or cancel them, then return."""
        self._service.slot.closing = True
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._service.settings.grace, self._service.cancel_all)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()


def listening_socket(settings: ServerSettings) -> socket.socket:
    """A bound socket, so that a port in use is reported before the model loads."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        raise RequestError(
            f"The server cannot listen on {settings.host}:{settings.port} ({error}): choose "
            "another --port or --host."
        ) from error
    return sock


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
