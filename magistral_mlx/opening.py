"""Which model is opened, and with which options: shared by terminal, server, page, evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.api import open_model
from magistral_mlx.convert.sources.locations import DEMO
from magistral_mlx.engine.status import StepReport
from magistral_mlx.errors import CheckpointError
from magistral_mlx.folders import models_folder
from magistral_mlx.magistral import Magistral
from magistral_mlx.ranks.layer_split import Split

THREE_WAYS = """\
No model has been used yet. Three ways to get one:
  magistral-mlx demo                    a very small model that comes with the package
  magistral-mlx convert                 Magistral Small, read from the Hub and converted
  magistral-mlx ask --model FOLDER ...  use an MLX folder that you already have"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The options that a model is opened with, as `open_model` takes them."""

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
        """Open what `choose_model` chose. Raises what `open_model` raises."""
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
        name: "demo", a folder, the name of a converted model or its Hub id; None: the last used.
        state: folder that remembers the last model.
        models: folder of converted models, by default the user's.

    Raises CheckpointError when there is nothing by that name, and says what to do.
    """
    name = name or _last_model(state)
    if name == DEMO:
        return DEMO
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser().resolve())
    return str(_converted(name, models or models_folder()))


def remember_model(choice: str, *, state: Path) -> None:
    """Make this the model that is used when none is named."""
    state.mkdir(parents=True, exist_ok=True)
    _last_model_file(state).write_text(choice + "\n", encoding="utf-8")


def _last_model(state: Path) -> str:
    try:
        choice = _last_model_file(state).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise CheckpointError(THREE_WAYS) from None
    if choice != DEMO and not Path(choice).is_dir():
        raise CheckpointError(
            f"The model used last, {choice}, is no longer there: name another with --model."
        )
    return choice


def _converted(name: str, models: Path) -> Path:
    """The folder that the converter made of it: its last part and the bits, "…-4bit"."""
    last = Path(name).name
    found = sorted(path for path in models.glob("*") if path.is_dir() and _is_named(path, last))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f"{name} has been converted several times: choose one of {names}.")
    if not found:
        raise CheckpointError(
            f"There is no model {name!r}: it is not a folder, and nothing converted from it lies "
            f"in {models}. Run magistral-mlx convert with a folder or a Hub id."
        )
    return found[0]


def _is_named(path: Path, name: str) -> bool:
    base, _, bits = path.name.rpartition("-")
    return path.name == name or (base == name and bits.endswith("bit"))


def _last_model_file(state: Path) -> Path:
    return state / "last_model"
