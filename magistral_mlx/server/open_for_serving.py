"""Which model the command serves, and how it is opened."""

from magistral_mlx.api import Magistral
from magistral_mlx.folders import state_folder
from magistral_mlx.model_choice import choose_model, remember_model
from magistral_mlx.server.serving import OnStep, serve
from magistral_mlx.server.settings import ServerSettings
from magistral_mlx.terminal.opening import Opening


def serve_chosen(name: str | None, opening: Opening, settings: ServerSettings) -> None:
    """Serve the model named, or the one used last, and remember it.

    Raises CheckpointError, before anything listens, when there is no such model; otherwise as
    `serve`.
    """
    choice = choose_model(name, state=state_folder())

    def open_model(on_step: OnStep) -> Magistral:
        model = opening.open(choice, on_step=on_step)
        remember_model(choice, state=state_folder())
        return model

    serve(settings, open_model)
