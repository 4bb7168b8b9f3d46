"""A source by what the user wrote: a folder, a repository of the Hub, or the word demo."""

from pathlib import Path

from magistral_mlx.convert.hub import hub_name
from magistral_mlx.convert.hub_source import open_hub_source
from magistral_mlx.convert.local_source import open_folder
from magistral_mlx.convert.locations import DEMO, source_name
from magistral_mlx.convert.source import Source
from magistral_mlx.errors import CheckpointError


def open_source(
    source: str | Path,
    *,
    fetched: Path | None = None,
    revision: str | None = None,
    keep_source: bool = False,
) -> Source:
    """Open a folder of either official layout, OWNER/NAME on the Hub, or `demo`.

    fetched: a folder for small files of the Hub; without it everything is downloaded.
    Raises CheckpointError when the source cannot be used, with one sentence.
    """
    name = hub_name(source)
    if name is not None:
        place = fetched or Path()
        return open_hub_source(
            name, fetched=place, revision=revision, keep_source=keep_source or fetched is None
        )
    if revision is not None or keep_source:
        raise CheckpointError(
            f"{source} is no repository of the Hub (OWNER/NAME): leave out --revision and "
            "--keep-source."
        )
    return open_folder(source_folder(source), name=source_name(source))


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
