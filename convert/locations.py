"""Where converted models live when the user names no folder."""

from pathlib import Path

from magistral_mlx.demo.expand import nano_digest
from magistral_mlx.folders import models_folder

DEMO = "demo"
"""The word that stands for the embedded nano checkpoint."""


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
