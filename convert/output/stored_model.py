"""A converted folder with the record of its conversion."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.checkpoint.folder import Checkpoint, open_checkpoint, read_entries
from magistral_mlx.checkpoint.json_file import read_json
from magistral_mlx.checkpoint.safetensors_header import TensorEntry
from magistral_mlx.convert.output.manifest import MANIFEST_FILE
from magistral_mlx.convert.rounding.weight_error import WeightError
from magistral_mlx.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A folder that opened, and its manifest's checksums (hex) and errors, where it has one."""

    checkpoint: Checkpoint
    places: Mapping[str, tuple[Path, TensorEntry]]
    tensor_digests: Mapping[str, str]
    file_digests: Mapping[str, str]
    errors: Mapping[str, WeightError]
    has_manifest: bool


def open_stored(folder: Path) -> StoredModel:
    """Open a converted folder, or any MLX folder. Raises CheckpointError with what is wrong."""
    folder = Path(folder).expanduser()
    checkpoint = open_checkpoint(folder)
    path = folder / MANIFEST_FILE
    manifest = read_json(path) if path.is_file() else {}
    recorded = manifest.get("error")
    errors = _mapping(recorded, path).get("tensors") if recorded is not None else {}
    return StoredModel(
        checkpoint=checkpoint,
        places=read_entries(checkpoint.weight_files),
        tensor_digests=_digests(manifest.get("tensors", {}), path),
        file_digests=_digests(manifest.get("files", {}), path),
        errors={
            name: WeightError(_number(value, "mean", path), _number(value, "largest", path))
            for name, value in _mapping(errors, path).items()
        },
        has_manifest=path.is_file(),
    )


def _digests(values: object, path: Path) -> dict[str, str]:
    return {
        name: str(_mapping(value, path).get("sha256"))
        for name, value in _mapping(values, path).items()
    }


def _number(value: object, field: str, path: Path) -> float:
    found = _mapping(value, path).get(field)
    if not isinstance(found, float | int):
        raise _damaged(path)
    return float(found)


def _mapping(value: object, path: Path) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _damaged(path)
    return value


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is damaged: restore it, or convert the model again.")
