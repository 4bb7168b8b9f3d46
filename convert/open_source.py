"""Find out which layout a source has, and open it."""

from pathlib import Path

from magistral_mlx.convert.hf_folder import open_hf_folder
from magistral_mlx.convert.locations import DEMO, source_name
from magistral_mlx.convert.mistral_folder import WEIGHTS, open_mistral_folder
from magistral_mlx.convert.source import Source
from magistral_mlx.errors import CheckpointError
from magistral_mlx.json_file import read_json

COMPANIONS = ("generation_config.json", "SYSTEM_PROMPT.txt", "LICENSE", "LICENSE.txt", "NOTICE")
"""Small files that belong to the model and are copied unchanged, where they exist. No
tokenizer.json: tekken.json is the authority, and converted ones have differed from it."""


def open_source(source: str | Path) -> Source:
    """Open a folder of either official layout, or `demo`; a folder with both is read as
    Hugging Face's.

    Raises CheckpointError when it is neither, or when a file of it is missing or damaged.
    """
    folder = source_folder(source)
    name = source_name(source)
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


def source_folder(source: str | Path) -> Path:
    """The folder behind a source; CheckpointError when there is none."""
    if source == DEMO:
        # Expanding the nano checkpoint takes a second: only those who ask for it pay.
        from magistral_mlx.demo.expand import demo_source

        return demo_source()
    folder = Path(source).expanduser()
    if not folder.exists():
        raise CheckpointError(
            f"{source} does not exist: give the folder of a downloaded checkpoint, or the word "
            f"{DEMO}."
        )
    if not folder.is_dir():
        raise CheckpointError(
            f"{source} is not a folder: give the folder of the checkpoint, not one file of it."
        )
    return folder.resolve()
