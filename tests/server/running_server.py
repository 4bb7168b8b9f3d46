"""A real server on a port of its own, in this process, for the clients of tests."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from magistral_mlx.api import Magistral
from magistral_mlx.server.answering.model_slot import ModelSlot
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.answering.settings import ServerSettings
from magistral_mlx.server.app import create_app, create_service
from magistral_mlx.server.serving import GracefulServer, listening_socket


@dataclass(frozen=True)
class RunningServer:
    """Where it listens, and what is inside."""

    sock: socket.socket
    port: int
    service: Service
    server: GracefulServer
    app: FastAPI

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"


@contextmanager
def running_server(
    model: Magistral | None, settings: ServerSettings | None = None
) -> Iterator[RunningServer]:
    """Serve a model, or the state in which there is none yet; stop at the end."""
    settings = settings or ServerSettings(port=0)
    service = create_service(ModelSlot(model, aliases=settings.aliases), settings)
    app = create_app(service)
    server = GracefulServer(app, service)
    sock = listening_socket(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield RunningServer(sock, sock.getsockname()[1], service, server, app)
    finally:
        server.should_exit = True
        thread.join()


def wait_for(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Return as soon as it holds; fail when it does not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)
