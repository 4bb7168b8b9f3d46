"""Find out which layout a folder has, and open it."""

from pathlib import Path

from magistral_mlx.checkpoint.json_file import read_json
from magistral_mlx.convert.sources.local_folder import open_hf_folder
from magistral_mlx.convert.sources.other_layouts import WEIGHTS, open_mistral_folder
from magistral_mlx.convert.sources.source import Source
from magistral_mlx.errors import CheckpointError

COMPANIONS = ("generation_config.json", "SYSTEM_PROMPT.txt", "LICENSE", "LICENSE.txt", "NOTICE")
"""Small files that belong to the model and are copied unchanged, where they exist. No
tokenizer.json beside tekken.json: that is the authority, and others have differed from it, so
tokenizer.json is made from it."""


def open_folder(folder: Path, *, name: str) -> Source:
    """Open a folder of either official layout; one with both is read as Hugging Face's.

    Raises CheckpointError when it is neither, or when a file of it is missing or damaged.
    """
    companions = _companions(folder)
    has_hf_weights = any(folder.glob("model*.safetensors"))
    has_config = (folder / "config.json").is_file()
    if (folder / WEIGHTS).is_file() and not has_hf_weights:
        return open_mistral_folder(folder, name=name, companions=companions)
    if has_config or has_hf_weights:
        return open_hf_folder(folder, name=name, companions=companions)
    if (folder / "params.json").is_file():
        return open_mistral_folder(folder, name=name, companions=companions)
    raise CheckpointError(
        f"{folder} holds neither config.json nor params.json: give the folder of a Mistral "
        "checkpoint."
    )


def _companions(folder: Path) -> tuple[Path, ...]:
    found = tuple(folder / name for name in COMPANIONS if (folder / name).is_file())
    for path in found:
        if path.suffix == ".json":
            read_json(path)
    return found
