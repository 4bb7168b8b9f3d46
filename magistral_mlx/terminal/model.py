"""Opening the model that a command uses, within what this machine holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from magistral_mlx.convert.cli import run_conversion
from magistral_mlx.convert.command_options import Converting
from magistral_mlx.convert.sources.locations import DEMO
from magistral_mlx.folders import state_folder
from magistral_mlx.kv.disk.folder import parse_disk_size
from magistral_mlx.opening import Opening, choose_model, remember_model
from magistral_mlx.spec import WINDOW
from magistral_mlx.terminal import command_options as opt
from magistral_mlx.terminal.model_protocol import AnsweringModel


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningOptions:
    """The options of every command that opens a model. kv_disk: a size, as "20GB"."""

    window: opt.Window = None
    dtype: opt.ComputeDtype = None
    kv_bits: opt.KVBits = None
    kv_start: opt.KVStart = 0
    kv_disk: opt.KVDisk = None
    wired: opt.Wired = False
    split: opt.SplitBy = "heads"

    def opening(self) -> Opening:
        """The same for `open_model`. Raises RequestError for a size that cannot be read."""
        return Opening(
            window=self.window,
            dtype=self.dtype,
            kv_bits=self.kv_bits,
            kv_start=self.kv_start,
            kv_disk=None if self.kv_disk is None else parse_disk_size(self.kv_disk),
            wired=self.wired,
            split=self.split,
        )


@contextmanager
def open_chosen(name: str | None, opening: Opening, *, errors: Console) -> Iterator[AnsweringModel]:
    """Open the model named, or the one used last, and remember it.

    The window is the one asked for, or what the memory plan finds room for. Raises CheckpointError
    when there is no such model, MemoryPlanError when it does not fit, and RequestError for an
    option that is not possible.
    """
    choice = choose_model(name, state=state_folder())
    with errors.status(f"Opening {Path(choice).name}"):
        model = opening.open(choice)
    with model:
        longest = model.checkpoint.config.max_position_embeddings
        if opening.window is None and model.window < min(WINDOW, longest):
            _say(errors, f"{model.plan.reasons[0]} ({model.plan.limit_source})")
        if model.plan.kv_bits < 16:
            _say(errors, model.plan.reasons[1])
        remember_model(choice, state=state_folder())
        yield model


@contextmanager
def open_demo(*, errors: Console) -> Iterator[AnsweringModel]:
    """Convert the model that comes with the package, anew each time, and open it."""
    _say(errors, "Converting the small model that comes with the package to 4-bit MLX")
    run_conversion(DEMO, None, Converting(force=True, rtn=True))
    with open_chosen(DEMO, Opening(), errors=errors) as model:
        yield model


def _say(errors: Console, message: str) -> None:
    errors.print(message, style="dim", markup=False)
