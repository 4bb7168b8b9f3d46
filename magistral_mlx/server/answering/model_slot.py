"""The open model, from when the server starts to when it stops."""

import json
from collections.abc import Sequence
from typing import Literal

from magistral_mlx.api import Magistral
from magistral_mlx.convert.output.manifest import MANIFEST_FILE
from magistral_mlx.server.errors import ApiError
from magistral_mlx.spec import HUB_ID

State = Literal["ok", "loading", "closing", "dead"]


class ModelSlot:
    """Holds the model once it is loaded; until then requests are told to come back."""

    def __init__(self, model: Magistral | None = None, *, aliases: Sequence[str] = ()) -> None:
        self._aliases = tuple(aliases)
        self._model = model
        self.closing = False
        """Whether the server is being stopped: new requests are refused."""

    @property
    def state(self) -> State:
        """Whether there is a model, and an engine that answers."""
        if self.closing:
            return "closing"
        if self._model is None:
            return "loading"
        return "ok" if self._model.status.alive else "dead"

    def fill(self, model: Magistral) -> None:
        """The model is loaded."""
        self._model = model

    def peek(self) -> Magistral | None:
        """The model, if it is loaded."""
        return self._model

    def get(self) -> Magistral:
        """The model, ready to answer. Raises ApiError (503) when it is not."""
        match self.state:
            case "loading":
                raise ApiError(503, "The model is loading.", code="loading", retry_after=5)
            case "closing":
                raise ApiError(503, "The server is shutting down.", code="shutting_down")
            case "dead":
                failure = self._model.status.failure if self._model else None
                why = failure or "The engine has died."
                message = f"{why} Restart the server; its log says more."
                raise ApiError(503, message, code="engine_dead")
        assert self._model is not None
        return self._model

    def check_name(self, name: str) -> None:
        """Raise ApiError (404) when a request is for another model."""
        names = (*model_names(self.get()), *self._aliases)
        if name not in names:
            raise ApiError(
                404,
                f"There is no model {name!r} here: use {names[0]}.",
                code="model_not_found",
                param="model",
            )


def model_names(model: Magistral) -> tuple[str, ...]:
    """What the model is called, the name that is listed first: the Hub's where that is known."""
    folder = model.name
    hub_name = HUB_ID.rpartition("/")[2]
    if hub_name in (folder, folder.rpartition("-")[0], _source_name(model)):
        return tuple(dict.fromkeys((HUB_ID, hub_name, folder)))
    return (folder,)


def _source_name(model: Magistral) -> str | None:
    """What the converter has written down of where the model comes from."""
    try:
        manifest = json.loads((model.checkpoint.folder / MANIFEST_FILE).read_bytes())
        return str(manifest["source"]["name"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
