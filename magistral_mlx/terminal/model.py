"""The model that a command uses: its interface, and opening it within this machine's limits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console

from magistral_mlx.events import Event
from magistral_mlx.folders import state_folder
from magistral_mlx.opening import Opening, choose_model, remember_model
from magistral_mlx.options import GenerationOptions
from magistral_mlx.spec import WINDOW
from magistral_mlx.text.conversation import Message


class Events(Iterator[Event], Protocol):
    """Events of one reply; closing cancels the request."""

    def close(self) -> None: ...


class AnsweringModel(Protocol):
    """An open model, as `magistral_mlx.open_model` returns it."""

    @property
    def name(self) -> str: ...

    @property
    def window(self) -> int: ...

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Events: ...

    def prompt_tokens(self, messages: Sequence[Message], options: GenerationOptions) -> int: ...


@contextmanager
def open_chosen(name: str | None, opening: Opening, *, errors: Console) -> Iterator[AnsweringModel]:
    """Open the named model, or the last one, and remember it.

    Prints on errors where the memory plan chose a smaller window or quantised KV. Raises
    CheckpointError when there is no such model, MemoryPlanError when it does not fit, and
    RequestError for an impossible option.
    """
    choice = choose_model(name, state=state_folder())
    with errors.status(f"Opening {Path(choice).name}"):
        model = opening.open(choice)
    with model:
        longest = model.checkpoint.config.max_position_embeddings
        if opening.window is None and model.window < min(WINDOW, longest):
            print_dim(errors, f"{model.plan.reasons[0]} ({model.plan.limit_source})")
        if model.plan.kv_bits < 16:
            print_dim(errors, model.plan.reasons[1])
        remember_model(choice, state=state_folder())
        yield model


def print_dim(errors: Console, message: str) -> None:
    """Print a remark about what the command does."""
    errors.print(message, style="dim", markup=False)
