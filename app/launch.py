"""Serving the page: where it listens, who may open it, and where conversations are kept."""

import ipaddress
import socket
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from magistral_mlx.app.gate import PageGate
from magistral_mlx.app.page import create_page
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.scripts import load_scripts
from magistral_mlx.app.theme import page_theme
from magistral_mlx.errors import UserError

LOOPBACK = "127.0.0.1"
PORT = 7860

Auth = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page listens, and the user and password that it asks for."""

    host: str = LOOPBACK
    port: int = PORT
    auth: Auth | None = None

    @property
    def url(self) -> str:
        """For the browser of this machine."""
        host = "localhost" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"


def serve_page(services: Services, address: Address, *, on_start: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `on_start` gets the page's URL as soon as it can be opened.

    Raises UserError, before anything is served, for a host that others can reach without a
    password, and for an address that cannot be used.
    """
    check_address(address)
    app = create_app(services, address)
    with _listening(address) as listener:
        on_start(address.url)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listener])


def open_in_browser(url: str) -> None:
    """Show the page to the user of this machine."""
    webbrowser.open(url)


def create_app(services: Services, address: Address) -> FastAPI:
    """A server of the page alone."""
    app = page_app(services, auth=address.auth)
    if is_loopback(address.host):
        # A name that another site points at this machine must not reach the page.
        app.add_middleware(
            TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", "::1"]
        )
    return app


def page_app(services: Services, *, auth: Auth | None = None) -> FastAPI:
    """The page as an application of its own; who may reach it is its server's to say."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    mount_page(app, services, auth=auth)
    return app


def mount_page(
    app: FastAPI, services: Services, *, auth: Auth | None = None, others: tuple[str, ...] = ()
) -> None:
    """Mount the page at "/", after the app's other routes, whose paths begin with `others`."""
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
    app.add_middleware(PageGate, others=others)


def check_address(address: Address) -> None:
    """Raises UserError for a host that others can reach, where no password is asked for."""
    if not is_loopback(address.host) and address.auth is None:
        raise UserError(
            f"--host {address.host} lets other machines open the page: "
            "set a password with --auth USER:PASSWORD, or leave --host out."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_auth(text: str | None) -> Auth | None:
    """A text "user:password" as a pair. Raises UserError where one of them is missing."""
    if text is None:
        return None
    user, _, password = text.partition(":")
    if not user or not password:
        raise UserError("--auth takes a user and a password, as --auth ada:correct-horse.")
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
