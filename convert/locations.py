"""Where converted models live when the user names no folder."""

import os
from pathlib import Path

import platformdirs

from magistral_mlx.demo.expand import nano_digest

DEMO = "demo"
"""The word that stands for the embedded nano checkpoint."""

FOLDER_VARIABLE = "MAGISTRAL_MLX_MODELS"
"""Environment variable that moves all converted models, to an external disk for instance."""


def models_folder() -> Path:
    """The folder that holds every converted model of this user; it may not exist yet."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_data_path("magistral-mlx") / "models"


def default_output(source: str | Path, *, bits: int) -> Path:
    """The folder that a source is converted to, named from the source and the bits."""
    return models_folder() / f"{source_name(source)}-{bits}bit"


def source_name(source: str | Path) -> str:
    """What a source is called: its folder's name, or the repository's in the Hub's cache.

    There the folder is models--OWNER--NAME/snapshots/REVISION.
    """
    if source == DEMO:
        return f"{DEMO}-{nano_digest()}"  # a new version's demo is not an old one's
    folder = Path(source).expanduser().resolve()
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.split("--")[-1]
    return folder.name
