"""`magistral-mlx app`: open the services and a model, and serve the page at an address."""

import socket
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI
from rich.console import Console

from magistral_mlx.app.gate import PageGate, refuse_host
from magistral_mlx.app.hosts import HostCheck, is_loopback
from magistral_mlx.app.page import create_page, page_theme
from magistral_mlx.app.panels.services import Services, open_services
from magistral_mlx.app.scripts import load_scripts
from magistral_mlx.convert import DEMO
from magistral_mlx.errors import UserError
from magistral_mlx.folders import data_folder
from magistral_mlx.opening import Opening

LOOPBACK = "127.0.0.1"
PORT = 7860

Auth = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page listens, and the user and password that it requires."""

    host: str = LOOPBACK
    port: int = PORT
    auth: Auth | None = None

    @property
    def url(self) -> str:
        """For the browser of this machine."""
        host = "localhost" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """The options of `magistral-mlx app`; see its --help."""

    model: str | None
    host: str
    port: int
    auth: str | None
    data_dir: Path | None
    history: bool
    show: bool


def run_page(options: PageOptions, opening: Opening, *, console: Console) -> None:
    """Serve until Ctrl-C, and meanwhile open the named model, the last one, or the demo.

    Raises UserError for an address that is not allowed or in use, an unusable folder, or a
    missing model.
    """
    address = Address(options.host, options.port, parse_auth(options.auth))
    check_address(address)
    folder = (options.data_dir or data_folder()).expanduser() if options.history else None

    with open_services(data_folder=folder, open_model=opening.open) as services:
        services.models.open(options.model or services.models.last_choice() or DEMO)
        app = create_app(services, address)
        with _listening(address) as listener:
            console.print(f"The page is at {address.url}  (Ctrl-C stops it)", highlight=False)
            if options.show:
                webbrowser.open(address.url)
            config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
            uvicorn.Server(config).run(sockets=[listener])


def create_app(services: Services, address: Address) -> FastAPI:
    """A server of the page alone."""
    app = page_app(services, auth=address.auth)
    if is_loopback(address.host):
        app.add_middleware(HostCheck, names=(), refuse=refuse_host)
    return app


def page_app(services: Services, *, auth: Auth | None = None) -> FastAPI:
    """The page as a separate application, without a check of the host."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    scripts = load_scripts()
    app.router.routes.append(scripts.route())
    gr.mount_gradio_app(
        app,
        create_page(services, scripts),
        path="/",
        auth=auth,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=page_theme(),
    )
    app.add_middleware(PageGate)
    return app


def check_address(address: Address) -> None:
    """Raises UserError for a host that other machines can reach, without a password."""
    if not is_loopback(address.host) and address.auth is None:
        raise UserError(
            f"--host {address.host} lets other machines open the page: "
            "set a password with --auth USER:PASSWORD, or leave --host out."
        )


def parse_auth(text: str | None) -> Auth | None:
    """Split "user:password". Raises UserError if one of them is missing."""
    if text is None:
        return None
    user, _, password = text.partition(":")
    if not user or not password:
        raise UserError("--auth needs a user and a password, for example --auth ada:correct-horse.")
    return user, password


@contextmanager
def _listening(address: Address) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address.host, address.port))
        except OSError as error:
            raise UserError(
                f"The page cannot listen on {address.host}:{address.port} ({error.strerror}): "
                "choose another --port."
            ) from error
        listener.listen()
        yield listener
