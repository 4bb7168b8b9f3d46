"""Which model to open, and with which options: for terminal, server, page and evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.api import open_model
from magistral_mlx.convert import DEMO
from magistral_mlx.engine.status import StepReport
from magistral_mlx.errors import CheckpointError
from magistral_mlx.folders import models_folder
from magistral_mlx.magistral import Magistral
from magistral_mlx.ranks.division import Split

THREE_WAYS = """\
No model has been used yet. Three ways to get one:
  magistral-mlx demo                    a very small model that comes with the package
  magistral-mlx convert                 Magistral Small, read from the Hub and converted
  magistral-mlx ask --model FOLDER ...  an MLX folder that you already have"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The options of `open_model`."""

    window: int | None = None
    dtype: str | None = None
    kv_bits: int | None = None
    kv_start: int = 0
    kv_disk: int | None = None
    wired: bool = False
    split: Split = "heads"

    def open(
        self, choice: str, *, on_step: Callable[[StepReport], None] | None = None
    ) -> Magistral:
        """Open what `choose_model` returned. Raises what `open_model` raises."""
        return open_model(
            choice,
            window=self.window,
            dtype=self.dtype,
            kv_bits=self.kv_bits,
            kv_start=self.kv_start,
            kv_disk=self.kv_disk,
            wired=self.wired,
            split=self.split,
            on_step=on_step,
        )


def choose_model(name: str | None, *, state: Path, models: Path | None = None) -> str:
    """What to open: "demo" or the absolute path of a folder.

    Args:
        name: "demo", a folder, the name of a converted model or its Hub id; None: the last model.
        state: folder that remembers the last model.
        models: folder of converted models, by default the user's.

    Raises CheckpointError if there is no such model.
    """
    name = name or _last_model(state)
    if name == DEMO:
        return DEMO
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser().resolve())
    return str(_converted(name, models or models_folder()))


def remember_model(choice: str, *, state: Path) -> None:
    """Make this the last model."""
    state.mkdir(parents=True, exist_ok=True)
    _last_model_file(state).write_text(choice + "\n", encoding="utf-8")


def _last_model(state: Path) -> str:
    try:
        choice = _last_model_file(state).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise CheckpointError(THREE_WAYS) from None
    if choice != DEMO and not Path(choice).is_dir():
        raise CheckpointError(
            f"The last model, {choice}, no longer exists: name another with --model."
        )
    return choice


def _converted(name: str, models: Path) -> Path:
    """The folder that the converter wrote: the last part of the name and the bits, "…-4bit"."""
    last = Path(name).name
    found = sorted(path for path in models.glob("*") if path.is_dir() and _is_named(path, last))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f"{name} has several conversions: choose one of {names}.")
    if not found:
        raise CheckpointError(
            f"There is no model {name!r}: it is not a folder, and {models} has no conversion of "
            "it. Run magistral-mlx convert with a folder or a Hub id."
        )
    return found[0]


def _is_named(path: Path, name: str) -> bool:
    base, _, bits = path.name.rpartition("-")
    return path.name == name or (base == name and bits.endswith("bit"))


def _last_model_file(state: Path) -> Path:
    return state / "last_model"
