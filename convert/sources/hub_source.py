"""A checkpoint on the Hub: streamed, or from the local cache when its files are there."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from magistral_mlx.checkpoint.folder import INDEX_FILE, weight_map
from magistral_mlx.checkpoint.safetensors_header import HEADER_LIMIT, LENGTH_BYTES, parse_header
from magistral_mlx.convert.sources.hub import (
    HubRepository,
    NoHubError,
    cached_snapshot,
    open_repository,
)
from magistral_mlx.convert.sources.local_folder import hf_source
from magistral_mlx.convert.sources.local_source import COMPANIONS, open_folder
from magistral_mlx.convert.sources.other_layouts import WEIGHTS, mistral_source
from magistral_mlx.convert.sources.remote_file import RemoteFile, RemoteTensor
from magistral_mlx.convert.sources.source import Source
from magistral_mlx.convert.vocabulary.open_vocabulary import TEMPLATE_FILES
from magistral_mlx.convert.vocabulary.tekken_json import TOKENIZER_JSON
from magistral_mlx.errors import CheckpointError
from magistral_mlx.text.tokenizer import TEKKEN_FILE

READERS = 6
"""Ranges in flight: enough that the next tensor is there when one is quantised."""


def open_hub_source(name: str, *, fetched: Path, revision: str | None, keep_source: bool) -> Source:
    """Check a repository's small files and headers, and present its tensors as a source.

    fetched: a folder for the small files (config, tokenizer); the weights are read by byte range
    and stored nowhere. keep_source: download everything into the Hub's cache first.
    Raises CheckpointError with one sentence.
    """
    try:
        repository = open_repository(name, revision=revision)
    except NoHubError as error:
        return _from_cache_alone(name, revision, error)
    small, weights = _needed_files(repository)
    folder = repository.cached((*small, *weights))
    if folder is None and keep_source:
        folder = repository.download((*small, *weights))
    if folder is not None:
        # The cache's folders are named by commit.
        source, commit = open_folder(folder, name=name), folder.name
    else:
        source, commit = _stream(repository, small, weights, fetched), repository.commit
    return _identified(source, name, commit, repository.licence)


def _from_cache_alone(name: str, revision: str | None, error: NoHubError) -> Source:
    folder = cached_snapshot(name, revision=revision)
    if folder is None:
        raise error
    return _identified(open_folder(folder, name=name), name, folder.name, None)


def _identified(source: Source, name: str, commit: str, licence: str | None) -> Source:
    """A commit says what the files are, wherever they are read from."""
    fingerprint = sha256(f"{name} {commit} {source.layout}".encode()).hexdigest()
    return replace(source, fingerprint=fingerprint, revision=commit, licence=licence)


def _needed_files(repository: HubRepository) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Small files and weight files of the layout that is read, as in a folder that has both."""
    names = sorted(repository.files)
    weights = [n for n in names if n.startswith("model") and n.endswith(".safetensors")]
    small = ["config.json", INDEX_FILE]
    if not weights:
        weights, small = [n for n in names if n == WEIGHTS], ["params.json"]
    if not weights:
        raise CheckpointError(
            f"{repository.name} has no model*.safetensors and no {WEIGHTS}: give the repository of "
            "the original checkpoint."
        )
    small += [TEKKEN_FILE] if TEKKEN_FILE in names else [TOKENIZER_JSON, *TEMPLATE_FILES]
    small += COMPANIONS
    return tuple(n for n in small if n in repository.files), tuple(weights)


def _stream(
    repository: HubRepository, small: Iterable[str], weights: Iterable[str], fetched: Path
) -> Source:
    fetched.mkdir(parents=True, exist_ok=True)
    for name in small:
        file = repository.files[name]
        (fetched / name).write_bytes(file.read(0, file.size))
    companions = tuple(fetched / name for name in COMPANIONS if (fetched / name).is_file())
    index = weight_map(fetched)
    tensors = _tensors(repository, sorted(set(index.values()) or weights), index)
    build = hf_source if (fetched / "config.json").is_file() else mistral_source
    source = build(
        fetched, name=repository.name, companions=companions, tensors=tensors, fingerprint=""
    )
    return replace(source, readers=READERS)


def _tensors(
    repository: HubRepository, names: Iterable[str], index: Mapping[str, str]
) -> dict[str, RemoteTensor]:
    tensors: dict[str, RemoteTensor] = {}
    for name in names:
        file = repository.files.get(name)
        if file is None:
            raise CheckpointError(
                f"{repository.name} lacks {name}, which its index names: report it on its page."
            )
        for tensor in _read_tensors(file):
            if tensor.name in tensors:
                raise CheckpointError(f"{repository.name} has tensor {tensor.name} twice.")
            if index.get(tensor.name, name) != name:
                raise CheckpointError(
                    f"{repository.name} has tensor {tensor.name} in {name}, and its index expects "
                    f"it in {index[tensor.name]}: report it on its page."
                )
            tensors[tensor.name] = tensor
    return tensors


def _read_tensors(file: RemoteFile) -> list[RemoteTensor]:
    length = int.from_bytes(file.read(0, LENGTH_BYTES), "little")
    if length > min(HEADER_LIMIT, file.size - LENGTH_BYTES):
        raise CheckpointError(f"{file.name} is no safetensors file: report it on its page.")
    text = bytes(file.read(LENGTH_BYTES, LENGTH_BYTES + length))
    entries = parse_header(text, file.size, Path(file.name))
    return [RemoteTensor(name, file, entry) for name, entry in entries.items()]
