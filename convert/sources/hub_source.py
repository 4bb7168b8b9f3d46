"""A checkpoint on the Hub: streamed, or read from the local cache if that has its files."""

from collections.abc import Iterable, Mapping, Sequence
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
from magistral_mlx.convert.sources.local_folder import (
    COMPANIONS,
    MISTRAL_WEIGHTS,
    folder_source,
    open_folder,
)
from magistral_mlx.convert.sources.remote_file import RemoteFile
from magistral_mlx.convert.sources.source import Source
from magistral_mlx.convert.sources.tensors import FileTensor
from magistral_mlx.convert.vocabulary.open_vocabulary import TEMPLATE_FILES
from magistral_mlx.convert.vocabulary.tekken_json import TOKENIZER_JSON
from magistral_mlx.errors import CheckpointError
from magistral_mlx.text.tokenizer import TEKKEN_FILE

READERS = 6
"""Byte ranges that are requested at once: more than quantising can keep up with."""


def open_hub_source(name: str, *, fetched: Path, revision: str | None, keep_source: bool) -> Source:
    """Check a repository's small files and weight headers.

    fetched: a folder for the small files (config, tokenizer). Weights are read by byte range and
    not stored, unless keep_source downloads everything to the Hub's cache first.
    Raises CheckpointError when the repository cannot be read or converted.
    """
    try:
        repository = open_repository(name, revision=revision)
    except NoHubError:
        folder = cached_snapshot(name, revision=revision)
        if folder is None:
            raise
        return _identified(open_folder(folder, name=name), name, folder.name, None)
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


def _identified(source: Source, name: str, commit: str, licence: str | None) -> Source:
    """Derive the fingerprint from the commit: the same for streamed and cached files."""
    fingerprint = sha256(f"{name} {commit} {source.layout}".encode()).hexdigest()
    return replace(source, fingerprint=fingerprint, revision=commit, licence=licence)


def _needed_files(repository: HubRepository) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Small files and weight files of one layout, Hugging Face's if the repository has both."""
    names = sorted(repository.files)
    weights = [n for n in names if n.startswith("model") and n.endswith(".safetensors")]
    small = ["config.json", INDEX_FILE]
    if not weights:
        weights, small = [n for n in names if n == MISTRAL_WEIGHTS], ["params.json"]
    if not weights:
        raise CheckpointError(
            f"{repository.name} has no model*.safetensors and no {MISTRAL_WEIGHTS}: give the "
            "repository of the original checkpoint."
        )
    small += [TEKKEN_FILE] if TEKKEN_FILE in names else [TOKENIZER_JSON, *TEMPLATE_FILES]
    small += COMPANIONS
    return tuple(n for n in small if n in repository.files), tuple(weights)


def _stream(
    repository: HubRepository, small: Iterable[str], weights: Sequence[str], fetched: Path
) -> Source:
    fetched.mkdir(parents=True, exist_ok=True)
    for name in small:
        file = repository.files[name]
        (fetched / name).write_bytes(file.read(0, file.size))
    index = weight_map(fetched)
    source = folder_source(
        fetched,
        name=repository.name,
        layout="mistral" if MISTRAL_WEIGHTS in weights else "hugging face",
        tensors=_tensors(repository, sorted(set(index.values()) or weights), index),
        fingerprint="",
    )
    return replace(source, readers=READERS)


def _tensors(
    repository: HubRepository, names: Iterable[str], index: Mapping[str, str]
) -> dict[str, FileTensor]:
    tensors: dict[str, FileTensor] = {}
    for name in names:
        file = repository.files.get(name)
        if file is None:
            raise CheckpointError(
                f"{repository.name} lacks {name}, which its index names: report it on its page."
            )
        for tensor in _read_tensors(file):
            if tensor.name in tensors:
                raise CheckpointError(
                    f"{repository.name} has tensor {tensor.name} twice: report it on its page."
                )
            if index.get(tensor.name, name) != name:
                raise CheckpointError(
                    f"{repository.name} has tensor {tensor.name} in {name}, and its index expects "
                    f"it in {index[tensor.name]}: report it on its page."
                )
            tensors[tensor.name] = tensor
    return tensors


def _read_tensors(file: RemoteFile) -> list[FileTensor]:
    length = int.from_bytes(file.read(0, LENGTH_BYTES), "little")
    if length > min(HEADER_LIMIT, file.size - LENGTH_BYTES):
        raise CheckpointError(f"{file.name} is not a safetensors file: report it on its page.")
    text = bytes(file.read(LENGTH_BYTES, LENGTH_BYTES + length))
    entries = parse_header(text, file.size, Path(file.name))
    return [FileTensor(name, file, entry) for name, entry in entries.items()]
