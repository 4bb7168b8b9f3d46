"""A body made from a pydantic model."""

from fastapi.responses import Response
from pydantic import BaseModel


class ModelResponse(Response):
    """What was set of a model, as JSON."""

    media_type = "application/json"

    def __init__(self, model: BaseModel) -> None:
        super().__init__(model.model_dump_json(exclude_unset=True, by_alias=True))
