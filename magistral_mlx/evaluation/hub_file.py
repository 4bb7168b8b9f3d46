"""One file of a data set on the Hub, downloaded once into the Hub's own cache."""

from pathlib import Path

import httpx
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from magistral_mlx.errors import UserError

# The first kind that fits: a gated repository is also one that is not found.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (
        GatedRepoError,
        "{repository} is gated: accept its terms on its page on the Hub, and then log in with "
        "hf auth login or set HF_TOKEN.",
    ),
    (
        RevisionNotFoundError,
        "{repository} no longer has revision {revision}: give the questions as a JSONL file.",
    ),
    (
        RepositoryNotFoundError,
        "{repository} is not on the Hub, or not for you: set HF_TOKEN, or give the questions as "
        "a JSONL file.",
    ),
    (
        LocalEntryNotFoundError,
        "{file} of {repository} is not in the Hub's cache, and the Hub cannot be reached: connect "
        "to the network for the first run.",
    ),
    (
        EntryNotFoundError,
        "{repository} has no {file} at revision {revision}: give the questions as a JSONL file.",
    ),
    (Exception, "{file} of {repository} could not be downloaded ({error}): try again later."),
)


def hub_file(repository: str, file: str, *, revision: str) -> Path:
    """The file's path in the cache. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are heeded.

    Raises UserError when the Hub does not give it: gated, gone, no network.
    """
    try:
        return Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision))
    except (HfHubHTTPError, EntryNotFoundError, httpx.HTTPError, OSError) as error:
        reason = next(text for kind, text in _REASONS if isinstance(error, kind))
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            reason.format(repository=repository, file=file, revision=revision[:8], error=first_line)
        ) from error
