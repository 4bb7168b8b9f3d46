"""Put a converted folder on the Hub."""

from pathlib import Path

from huggingface_hub import HfApi

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert.sources.hub import hub_errors
from magistral_mlx.errors import CheckpointError


def upload(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload a converted folder to OWNER/NAME, which is created when it is missing; its address.

    Files that are there already with the same content are not sent again. Raises CheckpointError
    with one sentence.
    """
    open_checkpoint(folder)
    with hub_errors(repository, None):
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            commit_message=f"Upload {folder.name}, converted for MLX",
        )
    return str(address)


def check_repository_name(repository: str) -> None:
    """Refuse a name before hours of work. Raises CheckpointError."""
    owner, _, name = repository.partition("/")
    if not owner or not name or "/" in name:
        raise CheckpointError(f"{repository!r} is no name of a repository: give OWNER/NAME.")
