"""conversion.json, the manifest of a finished conversion: writing and reading it."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from magistral_mlx.checkpoint.folder import Checkpoint, open_checkpoint, read_entries
from magistral_mlx.checkpoint.json_file import read_json
from magistral_mlx.checkpoint.safetensors_header import TensorEntry
from magistral_mlx.convert.output.journal import FinishedTensor
from magistral_mlx.convert.output.shards import Shard
from magistral_mlx.convert.rounding.stored_form import SAMPLED_ROWS, WeightError
from magistral_mlx.convert.sources.source import Source
from magistral_mlx.errors import CheckpointError

MANIFEST_FILE = "conversion.json"
FORMAT_VERSION = 2
PACKAGES = ("magistral-mlx", "mlx", "mistral-common")


def manifest_json(
    source: Source,
    settings: Mapping[str, object],
    shards: tuple[Shard, ...],
    *,
    finished: Mapping[str, FinishedTensor],
    file_digests: Mapping[str, str],
) -> dict[str, object]:
    """Source, settings, versions, and the SHA-256 of every tensor and every other file.

    It has no date and no path: the same conversion gives the same bytes.
    """
    ordered = [finished[tensor.name] for tensor in source.tensors]
    digests = {name: value for done in ordered for name, value in done.digests.items()}
    errors = {done.tensor: done.error for done in ordered if done.error is not None}
    return {
        "format_version": FORMAT_VERSION,
        "source": {
            "name": source.name,
            "revision": source.revision,
            "licence": source.licence,
            "layout": source.layout,
            "dtype": sorted({tensor.dtype for tensor in source.tensors}),
            "fingerprint": source.fingerprint,
        },
        "settings": dict(settings),
        "versions": {"python": platform.python_version()} | package_versions(),
        "error": {
            "rows": f"every {SAMPLED_ROWS}th of a block",
            "tensors": {name: asdict(error) for name, error in errors.items()},
        },
        "tensors": {
            name: {"file": shard.file_name, "sha256": digests[name]}
            for shard in shards
            for name in shard.entries
        },
        "files": {name: {"sha256": digest} for name, digest in file_digests.items()},
    }


def package_versions() -> dict[str, str]:
    """The versions of the packages that determine the output's bytes."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """An MLX folder and, if it has a manifest, its checksums (SHA-256, hex) and errors."""

    checkpoint: Checkpoint
    places: Mapping[str, tuple[Path, TensorEntry]]
    tensor_digests: Mapping[str, str]
    file_digests: Mapping[str, str]
    errors: Mapping[str, WeightError]
    has_manifest: bool


def open_stored(folder: Path) -> StoredModel:
    """Open an MLX folder with its manifest. Raises CheckpointError when a file is damaged."""
    folder = Path(folder).expanduser()
    checkpoint = open_checkpoint(folder)
    places = read_entries(checkpoint.weight_files)
    path = folder / MANIFEST_FILE
    manifest: dict[str, Any] = dict(read_json(path)) if path.is_file() else {}
    try:
        errors = manifest.get("error", {}).get("tensors", {})
        return StoredModel(
            checkpoint=checkpoint,
            places=places,
            tensor_digests=_digests(manifest.get("tensors", {})),
            file_digests=_digests(manifest.get("files", {})),
            errors={
                name: WeightError(float(error["mean"]), float(error["largest"]))
                for name, error in errors.items()
            },
            has_manifest=path.is_file(),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged: restore it, or convert the model again."
        ) from error


def _digests(values: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {name: value["sha256"] for name, value in values.items()}
