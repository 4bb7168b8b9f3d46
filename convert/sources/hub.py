"""A repository on the Hub: its files at one commit, and errors as sentences."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, get_token, hf_hub_url, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from magistral_mlx.convert.sources.remote_file import RemoteFile
from magistral_mlx.errors import CheckpointError

TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository at one commit.

    revision: the requested branch or tag, under which the local cache keeps it.
    """

    name: str
    revision: str
    commit: str
    licence: str | None
    files: Mapping[str, RemoteFile]

    def cached(self, names: tuple[str, ...]) -> Path | None:
        """The folder in the Hub's local cache, if it holds all these files of this commit."""
        found = [try_to_load_from_cache(self.name, name, revision=self.commit) for name in names]
        paths = [Path(path) for path in found if isinstance(path, str) and Path(path).is_file()]
        return paths[0].parent if paths and len(paths) == len(names) else None

    def download(self, names: tuple[str, ...]) -> Path:
        """Download the files to the Hub's local cache, as `hf download` does."""
        with hub_errors(self.name, self.revision):
            kept = list(names)
            return Path(snapshot_download(self.name, revision=self.revision, allow_patterns=kept))


def hub_name(source: str | Path) -> str | None:
    """The source, if it is OWNER/NAME and not a local path."""
    if not isinstance(source, str) or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source):
        return None
    return None if Path(source).exists() else source


def open_repository(name: str, *, revision: str | None) -> HubRepository:
    """Ask the Hub for a repository's files and commit.

    HF_TOKEN and HF_ENDPOINT work as in huggingface-hub. Raises NoHubError without network, and
    CheckpointError when the repository or revision does not exist or requires permission.
    """
    api = HfApi()
    with hub_errors(name, revision):
        info = api.model_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT)
    if info.sha is None or info.siblings is None:
        raise CheckpointError(f"{name}: the Hub did not list its files: run this again.")
    token = get_token()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    files = {
        file.rfilename: RemoteFile(
            name=file.rfilename,
            url=hf_hub_url(name, file.rfilename, revision=info.sha, endpoint=api.endpoint),
            size=file.size,
            headers=headers,
        )
        for file in info.siblings
        if file.size is not None
    }
    licences = (tag for tag in info.tags or [] if tag.startswith("license:"))
    licence = next(licences, "").removeprefix("license:") or None
    return HubRepository(name, revision or "main", info.sha, licence, files)


def cached_snapshot(name: str, *, revision: str | None) -> Path | None:
    """The repository's folder in the local cache, for use without network."""
    for file in ("config.json", "params.json"):
        found = try_to_load_from_cache(name, file, revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


class NoHubError(CheckpointError):
    """The Hub cannot be reached; the local cache may have the files."""


@contextmanager
def hub_errors(name: str, revision: str | None) -> Iterator[None]:
    """Turn errors of huggingface-hub into CheckpointError with one sentence."""
    try:
        yield
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise CheckpointError(_message(error, name, revision)) from error
    except (httpx2.TransportError, OfflineModeIsEnabled) as error:
        raise NoHubError(
            "The Hub cannot be reached: check the network (and HF_ENDPOINT, HF_HUB_OFFLINE), or "
            f"give the folder of a downloaded checkpoint instead of {name}."
        ) from error


def _message(error: Exception, name: str, revision: str | None) -> str:
    match error:
        case GatedRepoError():
            return (
                f"{name} is gated: accept its terms on its page on the Hub, and set HF_TOKEN to a "
                "token of that account."
            )
        case RepositoryNotFoundError():
            return (
                f"{name} does not exist on the Hub, or is private: check the name, or set HF_TOKEN "
                "to a token that may read it."
            )
        case RevisionNotFoundError():
            return f"{name} has no revision {revision!r}: give a branch, a tag or a commit of it."
        case LocalEntryNotFoundError():
            return (
                f"{name} could not be downloaded completely: check the network and run this again; "
                "the download resumes."
            )
        case HfHubHTTPError():
            status = error.response.status_code
            return f"{name}: the Hub answered HTTP {status}: run this again later."
    return f"{name} is not a repository's name: give OWNER/NAME."
