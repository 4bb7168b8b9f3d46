"""A source by what the user wrote: a folder, a GGUF file, OWNER/NAME on the Hub, or `demo`."""

import re
from pathlib import Path

from magistral_mlx.convert.sources.hub import hub_name
from magistral_mlx.convert.sources.hub_source import open_hub_source
from magistral_mlx.convert.sources.local_folder import open_folder
from magistral_mlx.convert.sources.source import Source
from magistral_mlx.demo.expand import demo_digest, demo_source
from magistral_mlx.errors import CheckpointError

SPLIT_SUFFIX = re.compile(r"-\d{5}-of-\d{5}$")
DEMO = "demo"
"""The source that stands for the demo model."""


def open_source(
    source: str | Path,
    *,
    fetched: Path,
    revision: str | None = None,
    keep_source: bool = False,
    tokenizer: Path | None = None,
) -> Source:
    """Open a folder of either layout, a GGUF file, OWNER/NAME on the Hub, or `demo`.

    fetched: a folder for small files of the Hub or from a GGUF file; it is created when needed.
    tokenizer: tekken.json or tokenizer.json for a GGUF file.
    Raises CheckpointError when the source cannot be used.
    """
    if tokenizer is not None and not is_gguf(source):
        raise CheckpointError(f"{source} has a tokenizer: leave out --tokenizer.")
    name = hub_name(source)
    if name is not None:
        return open_hub_source(name, fetched=fetched, revision=revision, keep_source=keep_source)
    if revision is not None or keep_source:
        raise CheckpointError(
            f"{source} is not a repository on the Hub (OWNER/NAME): leave out --revision and "
            "--keep-source."
        )
    if is_gguf(source):
        # The gguf package is slow to import, and no other source needs it.
        from magistral_mlx.convert.sources.gguf_file import open_gguf

        path = Path(source).expanduser().resolve()
        return open_gguf(path, name=source_name(source), tokenizer=tokenizer, fetched=fetched)
    return open_folder(_source_folder(source), name=source_name(source))


def needs_fetched(source: str | Path) -> bool:
    """Whether `open_source` writes small files to its `fetched` folder."""
    return hub_name(source) is not None or is_gguf(source)


def is_gguf(source: str | Path) -> bool:
    """Whether a source is a GGUF file by its name."""
    return str(source).lower().endswith(".gguf")


def source_path(source: str | Path) -> Path | None:
    """The folder or file that must not be overwritten; None for the Hub.

    Raises CheckpointError when the folder does not exist.
    """
    if hub_name(source) is not None:
        return None
    return Path(source).expanduser().resolve() if is_gguf(source) else _source_folder(source)


def source_name(source: str | Path) -> str:
    """What a source is called: the name of its folder, file or repository.

    In the Hub's cache, the folder is models--OWNER--NAME/snapshots/REVISION.
    """
    if source == DEMO:
        return f"{DEMO}-{demo_digest()}"  # another version of the package has another demo model
    folder = Path(source).expanduser().resolve()
    if folder.suffix.lower() == ".gguf":
        return SPLIT_SUFFIX.sub("", folder.stem)
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.split("--")[-1]
    return folder.name


def _source_folder(source: str | Path) -> Path:
    if source == DEMO:
        return demo_source()
    folder = Path(source).expanduser()
    if not folder.exists():
        raise CheckpointError(
            f"{source} does not exist: give the folder of a downloaded checkpoint, OWNER/NAME on "
            f"the Hub, or {DEMO}."
        )
    if not folder.is_dir():
        raise CheckpointError(
            f"{source} is not a folder: give the folder of the checkpoint, not one file of it."
        )
    return folder.resolve()
