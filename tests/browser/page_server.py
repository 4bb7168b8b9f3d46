"""The page's server in a thread of the tests, and as the command that users start."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from magistral_mlx.app.launch import Address, create_app
from magistral_mlx.app.panels.services import Services, open_services
from tests.terminal.typist import Typist, as_magistral


@contextmanager
def served(services: Services, address: Address | None = None) -> Iterator[str]:
    """The page over these services; gives its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        app = create_app(services, address or Address(port=port))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.should_exit = True
            thread.join(10)


@contextmanager
def served_typist(typist: Typist, folder: Path) -> Iterator[str]:
    """A page whose model writes what the typist does; gives its URL."""
    with open_services(
        data_folder=None, open_model=lambda choice: as_magistral(typist), state_folder=folder
    ) as services:
        services.models.open("demo")
        with served(services) as url:
            yield url


@contextmanager
def page_command(data: Path, *options: str) -> Iterator[str]:
    """`magistral-mlx app` in its own process; gives its URL."""
    port = free_port()
    command = [sys.executable, "-m", "magistral_mlx", "app", "--model", "demo", "--no-open"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--data-dir", str(data), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_until_it_listens(process, port)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    for _ in range(600):
        if process.poll() is not None:
            output = process.stdout.read().decode() if process.stdout else ""
            raise AssertionError(f"The page ended before it listened: {output}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("The page does not listen after 60 s.")
