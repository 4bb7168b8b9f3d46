"""Which model the command serves, and how it is opened."""

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from starlette.types import ASGIApp

from magistral_mlx.api import Magistral
from magistral_mlx.folders import state_folder
from magistral_mlx.opening import Opening, choose_model, remember_model
from magistral_mlx.ranks.launch import is_follower
from magistral_mlx.server.serving import OnStep, serve
from magistral_mlx.server.settings import ServerSettings


def serve_chosen(
    name: str | None,
    opening: Opening,
    settings: ServerSettings,
    *,
    page: bool = False,
    page_folder: Path | None = None,
) -> None:
    """Serve the model named, or the one used last, and remember it.

    Requests may call it by the name given here too.

    page: show the page at the root; page_folder: where its conversations are kept; None: nowhere.

    Raises CheckpointError, before anything listens, when there is no such model; otherwise as
    `serve`.
    """
    choice = choose_model(name, state=state_folder())
    settings = replace(settings, aliases=(*settings.aliases, name or choice))
    if is_follower(os.environ):
        opening.open(choice)  # until rank 0, which serves, has ended

    def open_model(on_step: OnStep) -> Magistral:
        model = opening.open(choice, on_step=on_step)
        remember_model(choice, state=state_folder())
        return model

    with ExitStack() as closing:

        def make_page(model: Magistral) -> ASGIApp:
            # The page is an extra of its own, and takes seconds to import.
            from magistral_mlx.app.launch import page_app
            from magistral_mlx.app.panels.services import open_services

            services = open_services(data_folder=page_folder, open_model=opening.open)
            closing.enter_context(services)
            services.models.adopt(choice, model)
            return page_app(services)

        serve(settings, open_model, make_page=make_page if page else None)
