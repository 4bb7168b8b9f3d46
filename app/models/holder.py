"""Which models can be opened, and the one that is open."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from magistral_mlx.app.runs.registry import RunRegistry
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import DEMO, default_output
from magistral_mlx.device import mlx_thread
from magistral_mlx.errors import CheckpointError, EngineError, UserError
from magistral_mlx.folders import models_folder
from magistral_mlx.folders import state_folder as user_state_folder
from magistral_mlx.magistral import Magistral
from magistral_mlx.opening import choose_model, remember_model

logger = logging.getLogger(__name__)

HolderState = Literal["idle", "opening", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that can be opened.

    choice: what `ModelHolder.open` takes: "demo" or a folder's path.
    nbytes: of its files; 0 for a demo that will be made at its first use.
    bits: of a weight; None: not quantised.
    """

    choice: str
    name: str
    nbytes: int
    bits: int | None


def available_models(folder: Path | None = None) -> list[ModelEntry]:
    """The demo, then the converted folders by name; by default those of the user's."""
    folder = folder or models_folder()
    demo = default_output(DEMO, bits=4)
    entries = [ModelEntry(DEMO, DEMO, _nbytes(demo), 4)]
    for path in sorted(folder.glob("*")):
        if path.is_dir() and not path.name.startswith((".", f"{DEMO}-")):
            entries += _entry(path)
    return entries


def _entry(path: Path) -> list[ModelEntry]:
    """One entry, or none for a folder that the engine would refuse."""
    try:
        checkpoint = open_checkpoint(path)
    except CheckpointError as error:
        logger.info("%s is not offered: %s", path, error)
        return []
    quantization = checkpoint.config.quantization
    bits = quantization.bits if quantization else None
    return [ModelEntry(str(path.resolve()), path.name, _nbytes(path), bits)]


def _nbytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*") if file.is_file())


@dataclass(frozen=True, slots=True)
class HolderSnapshot:
    """The holder at one moment.

    choice, name: of the model that is open or being opened, or could not be.
    seconds: since opening began, or that it took.
    message: why it failed.
    """

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
        self._runs = runs
        self._open_model = open_model
        self._state_folder = state_folder or user_state_folder()
        self._changed = threading.Condition()  # guards the rest
        self._now = HolderSnapshot(1, "idle", None, None, 0.0, None, None)
        self._begun = 0.0
        self._closed = False
        self._adopted = False
        self._thread: threading.Thread | None = None

    def snapshot(self) -> HolderSnapshot:
        """The holder as it is now."""
        with self._changed:
            return self._timed()

    def wait(self, version: int, timeout: float | None = None) -> HolderSnapshot:
        """The holder as soon as it is newer than `version`, or as it is after the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._now.version > version, timeout)
            return self._timed()

    def last_choice(self) -> str | None:
        """The model used last, if there is one and it is still there."""
        try:
            return choose_model(None, state=self._state_folder)
        except CheckpointError:
            return None

    def open(self, name: str, *, stop_runs: bool = False) -> None:
        """Begin to open "demo", a folder, or the name or Hub id of a converted model.

        The old model is closed first: two may not fit the memory. Raises UserError when there is
        no such model, one is being opened, or answers are being written and `stop_runs` is False.
        """
        choice = choose_model(name, state=self._state_folder)
        if self._adopted:
            raise UserError(
                f"This server was started with {self._now.name}, for its other clients too: "
                "start it with another --model to change that."
            )
        running = len(self._runs.running())
        if running and not stop_runs:
            raise UserError(
                f"{running} answers are being written: stop them, or wait, before another model "
                "is opened."
                if running > 1
                else "An answer is being written: stop it, or wait, before another model is opened."
            )
        with self._changed:
            if self._closed:
                raise UserError("The server is closing: start it again to open a model.")
            if self._now.state == "opening":
                raise UserError(f"{self._now.name} is being opened: wait until that is done.")
            old, self._begun = self._now.model, time.monotonic()
            self._set("opening", choice)
            self._thread = threading.Thread(
                target=self._replace, args=(old, choice), name="model-opener", daemon=True
            )
            self._thread.start()

    def adopt(self, choice: str, model: Magistral) -> None:
        """Hold a model that a server has opened for others too; it cannot be changed any more."""
        with self._changed:
            self._adopted = True
            self._set("ready", choice, model=model)

    def model(self) -> Magistral:
        """The open model. Raises UserError when none is."""
        model = self.snapshot().model
        if model is None:
            raise UserError("No model is open: choose one first.")
        return model

    def close(self) -> None:
        """Stop all runs and close the model, also one that is being opened."""
        with self._changed:
            self._closed = True
            thread = self._thread
        if thread is not None:
            thread.join()
        self._runs.stop_all()
        with self._changed:
            model = self._now.model
            self._set("idle", None)
        if model is not None:
            model.close()

    @mlx_thread()  # the demo is converted when it is opened first
    def _replace(self, old: Magistral | None, choice: str) -> None:
        message = f"{_name(choice)} could not be opened: see the log."
        model: Magistral | None = None
        try:
            self._runs.stop_all()
            if old is not None:
                old.close()
            model = self._open_model(choice)
            remember_model(choice, state=self._state_folder)
        except (UserError, EngineError, OSError, MemoryError, RuntimeError) as error:
            logger.warning("%s was not opened: %s", choice, error)
            message = str(error)
        finally:
            with self._changed:
                if model is None:
                    self._set("failed", choice, message=message)
                else:
                    self._set("ready", choice, model=model)

    def _set(
        self,
        state: HolderState,
        choice: str | None,
        *,
        message: str | None = None,
        model: Magistral | None = None,
    ) -> None:
        self._now = HolderSnapshot(
            version=self._now.version + 1,
            state=state,
            choice=choice,
            name=None if choice is None else _name(choice),
            seconds=time.monotonic() - self._begun,
            message=message,
            model=model,
        )
        self._changed.notify_all()

    def _timed(self) -> HolderSnapshot:
        if self._now.state != "opening":
            return self._now
        return replace(self._now, seconds=time.monotonic() - self._begun)


def _name(choice: str) -> str:
    return DEMO if choice == DEMO else Path(choice).name
