"""A source by what the user wrote: a folder, a repository of the Hub, or the word demo."""

from pathlib import Path

from magistral_mlx.convert.sources.hub import hub_name
from magistral_mlx.convert.sources.hub_source import open_hub_source
from magistral_mlx.convert.sources.local_source import open_folder
from magistral_mlx.convert.sources.locations import DEMO, source_name
from magistral_mlx.convert.sources.source import Source
from magistral_mlx.errors import CheckpointError


def open_source(
    source: str | Path,
    *,
    fetched: Path,
    revision: str | None = None,
    keep_source: bool = False,
    tokenizer: Path | None = None,
) -> Source:
    """Open a folder of either official layout, a GGUF file, OWNER/NAME on the Hub, or `demo`.

    fetched: a folder for the small files of what lies on the Hub or in a GGUF file; it is created
    when it is needed. tokenizer: the tekken.json of a GGUF file.
    Raises CheckpointError when the source cannot be used, with one sentence.
    """
    if tokenizer is not None and not is_gguf(source):
        raise CheckpointError(f"{source} has its own tokenizer: leave out --tokenizer.")
    name = hub_name(source)
    if name is not None:
        return open_hub_source(name, fetched=fetched, revision=revision, keep_source=keep_source)
    if revision is not None or keep_source:
        raise CheckpointError(
            f"{source} is no repository of the Hub (OWNER/NAME): leave out --revision and "
            "--keep-source."
        )
    if is_gguf(source):
        # Reading the format takes a package that no other source needs.
        from magistral_mlx.convert.sources.gguf_file import open_gguf

        path = Path(source).expanduser().resolve()
        return open_gguf(path, name=source_name(source), tokenizer=tokenizer, fetched=fetched)
    return open_folder(source_folder(source), name=source_name(source))


def is_gguf(source: str | Path) -> bool:
    """Whether a source is a GGUF file by its name."""
    return str(source).lower().endswith(".gguf")


def source_path(source: str | Path) -> Path | None:
    """The folder or file that must not be overwritten; None for the Hub's.

    Raises CheckpointError when there is none.
    """
    if hub_name(source) is not None:
        return None
    return Path(source).expanduser().resolve() if is_gguf(source) else source_folder(source)


def source_folder(source: str | Path) -> Path:
    """The folder behind a source; CheckpointError when there is none."""
    if source == DEMO:
        # Expanding the nano checkpoint takes a second: only those who ask for it pay.
        from magistral_mlx.demo.expand import demo_source

        return demo_source()
    folder = Path(source).expanduser()
    if not folder.exists():
        raise CheckpointError(
            f"{source} does not exist: give the folder of a downloaded checkpoint, OWNER/NAME on "
            f"the Hub, or the word {DEMO}."
        )
    if not folder.is_dir():
        raise CheckpointError(
            f"{source} is not a folder: give the folder of the checkpoint, not one file of it."
        )
    return folder.resolve()
