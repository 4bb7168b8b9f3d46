"""Opening the model that a command uses, within what this machine holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from magistral_mlx import open_model
from magistral_mlx.cli_options import Dtype
from magistral_mlx.convert.cli import convert_command
from magistral_mlx.convert.locations import DEMO
from magistral_mlx.folders import state_folder
from magistral_mlx.kv_folder import parse_disk_size
from magistral_mlx.model_choice import choose_model, remember_model
from magistral_mlx.spec import WINDOW
from magistral_mlx.terminal.model_protocol import AnsweringModel


@contextmanager
def open_chosen(
    name: str | None,
    *,
    max_context: int | None = None,
    dtype: Dtype | None = None,
    kv_disk: str | None = None,
    errors: Console,
) -> Iterator[AnsweringModel]:
    """Open the model named, or the one used last, and remember it.

    The window is the one asked for, or what the memory plan finds room for. kv_disk: a size, as
    "20GB". Raises CheckpointError when there is no such model, MemoryPlanError when it does not
    fit, and RequestError for a size that is none.
    """
    disk_bytes = None if kv_disk is None else parse_disk_size(kv_disk)
    choice = choose_model(name, state=state_folder())
    with errors.status(f"Opening {Path(choice).name}"):
        model = open_model(choice, window=max_context, dtype=dtype, kv_disk=disk_bytes)
    with model:
        longest = model.checkpoint.config.max_position_embeddings
        if max_context is None and model.window < min(WINDOW, longest):
            _say(errors, f"{model.plan.reasons[0]} ({model.plan.limit_source})")
        remember_model(choice, state=state_folder())
        yield model


@contextmanager
def open_demo(*, errors: Console) -> Iterator[AnsweringModel]:
    """Convert the model that comes with the package, anew each time, and open it."""
    _say(errors, "Converting the small model that comes with the package to 4-bit MLX")
    convert_command(DEMO, force=True)
    with open_chosen(DEMO, errors=errors) as model:
        yield model


def _say(errors: Console, message: str) -> None:
    errors.print(message, style="dim", markup=False)
