"""The objects that the page works with, opened and closed together."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from magistral_mlx.app.models.conversion import Conversion
from magistral_mlx.app.models.holder import ModelHolder
from magistral_mlx.app.rendering.markdown import MarkdownRenderer
from magistral_mlx.app.runs.registry import RunRegistry
from magistral_mlx.app.runs.streaming import LiveRuns
from magistral_mlx.app.store.store import Store
from magistral_mlx.magistral import Magistral


@dataclass(frozen=True, slots=True)
class Services:
    """The store, the open model, the running answers, and their way to the browser."""

    store: Store
    runs: RunRegistry
    models: ModelHolder
    conversion: Conversion
    renderer: MarkdownRenderer
    live: LiveRuns

    def close(self) -> None:
        """Stop and save the running answers, and close the model and the store."""
        self.conversion.cancel()
        self.models.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_services(
    *,
    data_folder: Path | None,
    open_model: Callable[[str], Magistral],
    state_folder: Path | None = None,
) -> Services:
    """Open the store; `Services.models` opens a model later.

    data_folder: for the conversations; None keeps no history.
    open_model, state_folder: as `ModelHolder` takes them.
    """
    store = Store(data_folder)
    runs = RunRegistry(store)
    renderer = MarkdownRenderer()
    return Services(
        store=store,
        runs=runs,
        models=ModelHolder(runs, open_model=open_model, state_folder=state_folder),
        conversion=Conversion(),
        renderer=renderer,
        live=LiveRuns(runs, renderer),
    )
