"""Which models can be opened, and the one that is open."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from magistral_mlx import Magistral
from magistral_mlx.app.runs import RunRegistry

HolderState = Literal["idle", "opening", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that can be opened.

    choice: what `ModelHolder.open` takes: "demo" or a folder's path; nbytes: of its files (0: it
    is not there yet, the demo is made at first use); bits: of a weight, None: not quantised.
    """

    choice: str
    name: str
    nbytes: int
    bits: int | None


def available_models(folder: Path | None = None) -> list[ModelEntry]:
    """The demo, then the converted folders by name; by default those of the user's."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class HolderSnapshot:
    """The holder at one moment. `seconds`: since opening began; `message`: why it failed."""

    version: int
    state: HolderState
    choice: str | None
    name: str | None
    seconds: float
    message: str | None
    model: Magistral | None


class ModelHolder:
    """Owns the one open model and opens another in a thread. Any thread may call any method."""

    def __init__(
        self,
        runs: RunRegistry,
        *,
        open_model: Callable[[str], Magistral],
        state_folder: Path | None = None,
    ) -> None:
        """open_model: opens a choice, with the window and so on that the server was started with.

        state_folder: where the last model is remembered; by default the user's.
        """
        raise NotImplementedError

    def snapshot(self) -> HolderSnapshot:
        """The holder as it is now."""
        raise NotImplementedError

    def wait(self, version: int, timeout: float | None = None) -> HolderSnapshot:
        """The holder as soon as it is newer than `version`, or as it is after the timeout."""
        raise NotImplementedError

    def last_choice(self) -> str | None:
        """The model used last, if there is one and it is still there."""
        raise NotImplementedError

    def open(self, name: str, *, stop_runs: bool = False) -> None:
        """Begin to open "demo", a folder, or the name or Hub id of a converted model.

        The old model is closed first. Raises UserError when there is no such model, one is being
        opened, or answers are being written and `stop_runs` is False.
        """
        raise NotImplementedError

    def model(self) -> Magistral:
        """The open model. Raises UserError when none is."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop all runs and close the model."""
        raise NotImplementedError
