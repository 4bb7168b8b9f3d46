"""The open model, and its states while the server runs."""

import json
from collections.abc import Sequence
from typing import Literal

from magistral_mlx.api import Magistral
from magistral_mlx.convert.output.manifest import MANIFEST_FILE
from magistral_mlx.server.answering.errors import ApiError
from magistral_mlx.spec import HUB_ID

State = Literal["ok", "loading", "closing", "dead"]


class ModelSlot:
    """Holds the model once it is loaded. Before that it is None, and requests get 503."""

    def __init__(self, model: Magistral | None = None, *, aliases: Sequence[str] = ()) -> None:
        self.model = model
        self._aliases = tuple(aliases)
        self.closing = False
        """Whether the server is stopping and refuses new requests."""

    @property
    def state(self) -> State:
        """Whether requests can be answered, or why not."""
        if self.closing:
            return "closing"
        if self.model is None:
            return "loading"
        return "ok" if self.model.status.alive else "dead"

    def get(self) -> Magistral:
        """The model. Raises ApiError (503) if it cannot answer."""
        match self.state:
            case "loading":
                raise ApiError(
                    503, "The model is loading: try again.", code="loading", retry_after=5
                )
            case "closing":
                raise ApiError(503, "The server is shutting down.", code="shutting_down")
            case "dead":
                failure = self.model.status.failure if self.model else None
                why = failure or "The engine has stopped."
                message = f"{why} Restart the server; see its log."
                raise ApiError(503, message, code="engine_dead")
        assert self.model is not None
        return self.model

    def check_name(self, name: str) -> None:
        """Raises ApiError (404) for the name of another model."""
        names = (*model_names(self.get()), *self._aliases)
        if name not in names:
            raise ApiError(
                404,
                f"There is no model {name!r}: use {names[0]}.",
                code="model_not_found",
                param="model",
            )


def model_names(model: Magistral) -> tuple[str, ...]:
    """Names of the model. The first is listed: the Hub id if it is known, or the folder's name."""
    folder = model.name
    hub_name = HUB_ID.rpartition("/")[2]
    if hub_name in (folder, folder.rpartition("-")[0], _source_name(model)):
        return tuple(dict.fromkeys((HUB_ID, hub_name, folder)))
    return (folder,)


def _source_name(model: Magistral) -> str | None:
    """The source's name in the converter's manifest."""
    try:
        manifest = json.loads((model.checkpoint.folder / MANIFEST_FILE).read_bytes())
        return str(manifest["source"]["name"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
