"""The models that can be opened, and the one that is open."""

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

    choice: for `ModelHolder.open`: "demo" or a folder's path.
    nbytes: of its files; 0 for a demo model that has not been converted yet.
    bits: per weight; None: not quantised.
    """

    choice: str
    name: str
    nbytes: int
    bits: int | None


def available_models(folder: Path | None = None) -> list[ModelEntry]:
    """The demo, then the converted models by name, by default from the user's models folder."""
    folder = folder or models_folder()
    demo = default_output(DEMO, bits=4)
    entries = [ModelEntry(DEMO, DEMO, _nbytes(demo), 4)]
    for path in sorted(folder.glob("*")):
        if path.is_dir() and not path.name.startswith((".", f"{DEMO}-")):
            entries += _entry(path)
    return entries


def _entry(path: Path) -> list[ModelEntry]:
    """One entry, or none if the engine would refuse the folder."""
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

    choice: the model that is open, is being opened, or failed to open.
    seconds: the time that opening has taken so far, or took.
    message: why it failed.
    """

    state: HolderState
    choice: str | None = None
    seconds: float = 0.0
    message: str | None = None
    model: Magistral | None = None

    @property
    def name(self) -> str | None:
        """The model's name, for the user."""
        return None if self.choice is None else _name(self.choice)


class ModelHolder:
    """Owns the one open model and opens another in a thread. Any thread may call any method."""

    def __init__(
        self,
        runs: RunRegistry,
        *,
        open_model: Callable[[str], Magistral],
        state_folder: Path | None = None,
    ) -> None:
        """open_model: opens a choice with the server's options, such as the window.

        state_folder: remembers the last model; by default the user's folder.
        """
        self._runs = runs
        self._open_model = open_model
        self._state_folder = state_folder or user_state_folder()
        self._lock = threading.Lock()  # guards the rest
        self._now = HolderSnapshot("idle")
        self._begun = 0.0
        self._closed = False
        self._adopted = False
        self._thread: threading.Thread | None = None

    def snapshot(self) -> HolderSnapshot:
        """The holder as it is now."""
        with self._lock:
            return self._timed()

    def last_choice(self) -> str | None:
        """The last model, if it still exists."""
        try:
            return choose_model(None, state=self._state_folder)
        except CheckpointError:
            return None

    def open(self, name: str, *, stop_runs: bool = False) -> None:
        """Start opening "demo", a folder, or the name or Hub id of a converted model.

        The old model is closed first, because two may not fit in memory. Raises UserError if there
        is no such model, one is being opened, or answers are in progress and `stop_runs` is False.
        """
        choice = choose_model(name, state=self._state_folder)
        if self._adopted:
            raise UserError(
                f"Other clients use {self._now.name} too: start the server with another --model to "
                "change it."
            )
        running = len(self._runs.running())
        if running and not stop_runs:
            raise UserError(
                f"{running} answers are being written: stop them, or wait, before another model "
                "is opened."
                if running > 1
                else "An answer is being written: stop it, or wait, before another model is opened."
            )
        with self._lock:
            if self._closed:
                raise UserError("The server is closing: start it again to open a model.")
            if self._now.state == "opening":
                raise UserError(f"{self._now.name} is being opened: wait until that is done.")
            old, self._begun = self._now.model, time.monotonic()
            self._now = HolderSnapshot("opening", choice)
            self._thread = threading.Thread(
                target=self._replace, args=(old, choice), name="model-opener", daemon=True
            )
            self._thread.start()

    def adopt(self, choice: str, model: Magistral) -> None:
        """Hold a model that a server shares with other clients; it can no longer be changed."""
        with self._lock:
            self._adopted = True
            self._now = HolderSnapshot("ready", choice, model=model)

    def model(self) -> Magistral:
        """The open model. Raises UserError if none is open."""
        model = self.snapshot().model
        if model is None:
            raise UserError("No model is open: choose one first.")
        return model

    def close(self) -> None:
        """Stop all runs and close the model, even one that is still being opened."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            thread.join()
        self._runs.stop_all()
        with self._lock:
            model = self._now.model
            self._now = HolderSnapshot("idle")
        if model is not None:
            model.close()

    @mlx_thread()  # the demo model is converted when it is first opened
    def _replace(self, old: Magistral | None, choice: str) -> None:
        message: str | None = f"{_name(choice)} could not be opened: see the log."
        model: Magistral | None = None
        try:
            self._runs.stop_all()
            if old is not None:
                old.close()
            model, message = self._open_model(choice), None
            remember_model(choice, state=self._state_folder)
        except (UserError, EngineError, OSError, MemoryError, RuntimeError) as error:
            logger.warning("%s was not opened: %s", choice, error)
            message = str(error) if model is None else None
        finally:
            with self._lock:
                seconds = time.monotonic() - self._begun
                state: HolderState = "failed" if model is None else "ready"
                self._now = HolderSnapshot(state, choice, seconds, message, model)

    def _timed(self) -> HolderSnapshot:
        if self._now.state != "opening":
            return self._now
        return replace(self._now, seconds=time.monotonic() - self._begun)


def _name(choice: str) -> str:
    return DEMO if choice == DEMO else Path(choice).name
