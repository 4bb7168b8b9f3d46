"""The application: routes, and the layers around them."""

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from magistral_mlx.app.hosts import HostCheck, machine_names
from magistral_mlx.server.answering.errors import ApiError, install_errors, refuse
from magistral_mlx.server.answering.metrics import Metrics
from magistral_mlx.server.answering.model_slot import ModelSlot
from magistral_mlx.server.answering.records import ID_HEADER, RecordLayer
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.answering.settings import ServerSettings
from magistral_mlx.server.anthropic.messages import message_routes
from magistral_mlx.server.layers.auth import Auth
from magistral_mlx.server.layers.body import BodyLimit
from magistral_mlx.server.openai.chat import chat_routes
from magistral_mlx.server.openai.completions import completion_routes
from magistral_mlx.server.openai.models import model_routes
from magistral_mlx.server.openai.responses import response_routes
from magistral_mlx.server.own_routes import own_routes
from magistral_mlx.spec import VERSION


def create_service(slot: ModelSlot, settings: ServerSettings) -> Service:
    """What the routes share."""
    return Service(slot, settings, Metrics(slot))


def create_app(service: Service, *, page: ASGIApp | None = None) -> FastAPI:
    """The whole server as an ASGI application.

    page: another application, for all paths that are not the API's, with the same access control.
    """
    app = FastAPI(
        title="magistral-mlx",
        version=VERSION,
        docs_url=None,  # both pages fetch their scripts from elsewhere
        redoc_url=None,
    )
    openai_routes = (chat_routes, completion_routes, response_routes, model_routes)
    for routes in (*openai_routes, message_routes, own_routes):
        app.include_router(routes(service))
    install_errors(app)
    _add_layers(app, service)
    if page is not None:
        # Not mounted: a mount would also take wrong methods of the API's routes.
        app.router.default = _page_or_nothing(page, app.router.not_found)
    return app


def _page_or_nothing(page: ASGIApp, nothing: ASGIApp) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        is_api = scope["type"] == "http" and scope["path"].startswith("/v1/")
        await (nothing if is_api else page)(scope, receive, send)

    return serve


def _add_layers(app: FastAPI, service: Service) -> None:
    """The last one added is the outermost."""
    settings = service.settings
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(Auth, keys=settings.api_keys)
    names = (settings.host, *machine_names(), *settings.allowed_hosts)
    app.add_middleware(HostCheck, names=names, refuse=_refuse_host)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=[ID_HEADER, "Retry-After"],
        )
    app.add_middleware(RecordLayer, count=service.metrics.request)


async def _refuse_host(scope: Scope, receive: Receive, send: Send, host: str) -> None:
    message = (
        f"The host {host!r} is not served: use the server's address, or start it with "
        f"--allow-host {host or 'NAME'}."
    )
    await refuse(scope, receive, send, ApiError(403, message, code="unknown_host"))
