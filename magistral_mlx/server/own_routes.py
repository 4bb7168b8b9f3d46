"""GET /health and GET /metrics."""

from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.errors import ERRORS


class Health(BaseModel):
    """Whether requests are answered."""

    status: Literal["ok", "loading", "closing", "dead"]


def health_routes(service: Service) -> APIRouter:
    """What load balancers and Prometheus ask for."""
    router = APIRouter()

    @router.get("/health", responses={503: {"model": Health}}, tags=["server"])
    async def health(response: Response) -> Health:
        """200 while the model answers; 503 while it loads, after it died, and while it closes."""
        state = service.slot.state
        response.status_code = 200 if state == "ok" else 503
        return Health(status=state)

    @router.get(
        "/metrics", response_class=PlainTextResponse, responses={401: ERRORS[401]}, tags=["server"]
    )
    async def metrics() -> Response:
        """Figures in Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
