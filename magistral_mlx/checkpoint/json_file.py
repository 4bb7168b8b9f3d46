"""Reading a checkpoint's JSON files; error messages name the file and the field."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.errors import CheckpointError


def read_json(path: Path) -> dict[str, object]:
    """The JSON object in a file. Raises CheckpointError when it is missing or not an object."""
    try:
        data = json.loads(existing_file(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{path} is not valid JSON ({error}): restore the original file."
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): restore the original file."
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object: restore the original file.")
    return data


def existing_file(path: Path) -> Path:
    """The path, if it is a file. Raises CheckpointError otherwise."""
    if not path.is_file():
        raise CheckpointError(
            f"{path.name} is missing in {path.parent}: copy it from the original checkpoint."
        )
    return path


@dataclass(frozen=True, slots=True)
class JsonFields:
    """Typed access to a JSON object; file: its name, for messages."""

    data: Mapping[str, object]
    file: str

    def size(self, name: str, *, default: int | None = None) -> int:
        value = self.data.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._wrong(name, "a whole number above 0")
        return value

    def number(self, name: str) -> float:
        value = self.data.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise self._wrong(name, "a number above 0")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.data.get(name)
        if value not in (None, True, False):
            raise self._wrong(name, "true or false")
        return bool(value)

    def _wrong(self, name: str, wanted: str) -> CheckpointError:
        has = f"is {self.data[name]!r}" if name in self.data else "is missing"
        return CheckpointError(
            f"{self.file}: {name} {has}, but must be {wanted}: restore the original file."
        )


def as_mapping(value: object) -> Mapping[str, object]:
    """The value, or an empty mapping if it is not a JSON object."""
    return value if isinstance(value, Mapping) else {}
