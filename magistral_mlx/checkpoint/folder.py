"""Open a checkpoint folder of the Hugging Face / MLX layout: config, weights, tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.json_file import existing_file, read_json
from magistral_mlx.checkpoint.safetensors_header import TensorEntry, read_header
from magistral_mlx.checkpoint.weight_shapes import check_entries, check_shapes, weight_shapes
from magistral_mlx.device import SAFETENSORS_DTYPES, dtype_name
from magistral_mlx.errors import CheckpointError

INDEX_FILE = "model.safetensors.index.json"
TOKENIZER_FILES = ("tekken.json", "tokenizer.json")
"""The first of these that a folder has is used: tekken.json is authoritative."""

SAMPLE_BYTES = 4096
"""Bytes of each tensor in the fingerprint: few, so that a 13 GB checkpoint opens quickly."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder whose files agree with each other; no weight has been loaded yet.

    The fingerprint (hex) changes with the config, the tokenizer or the weights, not with the
    folder's name or the files' dates.
    """

    folder: Path
    config: ModelConfig
    weight_files: tuple[Path, ...]
    tokenizer_file: Path
    fingerprint: str


def open_checkpoint(folder: Path) -> Checkpoint:
    """Check a converted (or plain bfloat16) folder and describe it.

    Reads the headers of the weight files, not the weights. Raises CheckpointError when a file is
    missing, truncated or disagrees with config.json, or when the runtime cannot run the model.
    """
    folder = Path(folder)
    config = ModelConfig.from_hf(read_json(_config_file(folder)))
    tokenizer_file = find_tokenizer_file(folder)
    weight_files = find_weight_files(folder)
    entries = {name: entry for name, (_, entry) in read_entries(weight_files).items()}
    check_entries(config, entries, folder)
    # config.json may name the type used in training instead of the stored one.
    stored = SAFETENSORS_DTYPES[entries["model.norm.weight"].dtype]
    return Checkpoint(
        folder=folder,
        config=replace(config, dtype=dtype_name(stored)),
        weight_files=weight_files,
        tokenizer_file=tokenizer_file,
        fingerprint=_fingerprint(folder, tokenizer_file, weight_files),
    )


def load_weights(checkpoint: Checkpoint) -> dict[str, mx.array]:
    """All tensors by mlx-lm's names, lazily: MLX reads each from disk when it is evaluated.

    Raises CheckpointError when a shape disagrees with the config.
    """
    weights: dict[str, mx.array] = {}
    for path in checkpoint.weight_files:
        loaded = mx.load(str(path))
        if not isinstance(loaded, dict):
            raise CheckpointError(f"{path} does not hold named tensors: convert the model again.")
        weights.update(loaded)
    shapes = {name: tuple(array.shape) for name, array in weights.items()}
    check_shapes(checkpoint.config, shapes, checkpoint.folder)
    return {name: weights[name] for name in weight_shapes(checkpoint.config)}


def find_tokenizer_file(folder: Path) -> Path:
    """tekken.json, or tokenizer.json of a plain Llama-architecture checkpoint."""
    found = (folder / name for name in TOKENIZER_FILES if (folder / name).is_file())
    return existing_file(next(found, folder / TOKENIZER_FILES[0]))


def find_weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that the index names; without an index, all model*.safetensors."""
    names = set(weight_map(folder).values())
    if names:
        outside = sorted(name for name in names if Path(name).name != name)
        if outside:
            raise CheckpointError(
                f"{folder / INDEX_FILE} names {outside[0]!r}, which is not a file of its folder: "
                "restore the original file."
            )
        return tuple(existing_file(folder / name) for name in sorted(names))
    files = tuple(sorted(folder.glob("model*.safetensors")))
    return files or (existing_file(folder / "model.safetensors"),)


def weight_map(folder: Path) -> Mapping[str, str]:
    """The file of every tensor, by the folder's index; empty without an index.

    Raises CheckpointError when the index is damaged.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        return {}
    found = read_json(path).get("weight_map")
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path} has no weight_map: restore the original file.")
    return {str(name): str(file) for name, file in found.items()}


def read_entries(files: tuple[Path, ...]) -> dict[str, tuple[Path, TensorEntry]]:
    """Every tensor of a folder's safetensors files, with its file.

    Raises CheckpointError when the folder's index expects a tensor in another file.
    """
    index = weight_map(files[0].parent)
    entries: dict[str, tuple[Path, TensorEntry]] = {}
    for path in files:
        for name, entry in read_header(path).items():
            if name in entries:
                raise CheckpointError(
                    f"{path} repeats tensor {name} of {entries[name][0].name}: delete the file "
                    "that does not belong to this checkpoint."
                )
            if index.get(name, path.name) != path.name:
                raise CheckpointError(
                    f"{path} holds tensor {name}, which {INDEX_FILE} expects in {index[name]}: "
                    "restore the files of one release under their own names."
                )
            entries[name] = path, entry
    return entries


def _config_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder: give the folder of a converted model.")
    if (folder / "params.json").is_file() and not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} has the Mistral layout (params.json): convert it first with "
            f"python -m magistral_mlx.convert {folder}"
        )
    return folder / "config.json"


def _fingerprint(folder: Path, tokenizer_file: Path, weight_files: tuple[Path, ...]) -> str:
    digest = sha256()
    for path in (folder / "config.json", tokenizer_file):
        digest.update(sha256(path.read_bytes()).digest())
    for path in weight_files:
        entries = read_header(path)
        digest.update(repr(sorted(entries.items())).encode())
        with path.open("rb") as file:
            for _, entry in sorted(entries.items()):
                middle = entry.start + max(0, entry.stop - entry.start - SAMPLE_BYTES) // 2
                file.seek(middle)
                digest.update(file.read(min(SAMPLE_BYTES, entry.stop - middle)))
    return digest.hexdigest()
