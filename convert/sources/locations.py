"""Where converted models live when the user names no folder."""

import re
from pathlib import Path

from magistral_mlx.demo.expand import nano_digest
from magistral_mlx.folders import models_folder

SPLIT_SUFFIX = re.compile(r"-\d{5}-of-\d{5}$")
DEMO = "demo"
"""The word that stands for the embedded nano checkpoint."""


def default_output(source: str | Path, *, bits: int, recipe: str | None = None) -> Path:
    """The folder that a source is converted to, named from the source and the bits or recipe."""
    plain = recipe is None or (recipe[0] == "q" and recipe[1:].isdigit())
    suffix = f"{recipe[1:] if recipe else bits}bit" if plain else recipe
    return models_folder() / f"{source_name(source)}-{suffix}"


def source_name(source: str | Path) -> str:
    """What a source is called: its folder's name, or the repository's in the Hub's cache.

    There the folder is models--OWNER--NAME/snapshots/REVISION.
    """
    if source == DEMO:
        return f"{DEMO}-{nano_digest()}"  # a new version's demo is not an old one's
    folder = Path(source).expanduser().resolve()
    if folder.suffix.lower() == ".gguf":
        return SPLIT_SUFFIX.sub("", folder.stem)
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.split("--")[-1]
    return folder.name
