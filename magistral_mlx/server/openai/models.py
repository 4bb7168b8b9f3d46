"""GET /v1/models."""

from fastapi import APIRouter
from fastapi.responses import Response
from openai.types import Model
from pydantic import BaseModel

from magistral_mlx.api import Magistral
from magistral_mlx.server.answering.errors import ERRORS
from magistral_mlx.server.answering.model_slot import model_names
from magistral_mlx.server.answering.sending import ModelResponse
from magistral_mlx.server.answering.service import Service


class ModelList(BaseModel):
    """The body of a list, for which OpenAI's client has no type."""

    object: str
    data: list[Model]


def model_routes(service: Service) -> APIRouter:
    """The open model, under the name that requests use."""
    router = APIRouter(responses={**ERRORS}, tags=["OpenAI"])

    @router.get("/v1/models", response_model=ModelList)
    async def list_models() -> Response:
        """List the open model."""
        return ModelResponse(ModelList(object="list", data=[_described(service.slot.get())]))

    @router.get("/v1/models/{name:path}", response_model=Model)
    async def retrieve_model(name: str) -> Response:
        """Describe the open model, by any of its names."""
        service.slot.check_name(name)
        return ModelResponse(_described(service.slot.get()))

    return router


def _described(model: Magistral) -> Model:
    written = (model.checkpoint.folder / "config.json").stat().st_mtime
    return Model.model_validate(
        {
            "id": model_names(model)[0],
            "object": "model",
            "created": int(written),
            "owned_by": "mistralai",
            # vLLM's name for the window, which clients read.
            "max_model_len": model.window,
        }
    )
