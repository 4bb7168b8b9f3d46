"""Rows of a JSONL, CSV or Parquet file, as the Hub's data sets have them."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.errors import UserError

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Fields:
    """Typed reading of one row; where it stands goes into the messages."""

    row: Row
    place: str

    def text(self, name: str) -> str:
        """What a field holds, without the space around it. Raises UserError when it is missing."""
        value = self.optional_text(name)
        if value is None:
            known = ", ".join(self.row) or "none"
            raise UserError(f"{self.place} has no {name}: its fields are {known}.")
        return value

    def optional_text(self, name: str) -> str | None:
        """The same; None when the field is missing or empty."""
        value = self.row.get(name)
        if value is None or isinstance(value, bool | list | dict):
            return None
        return str(value).strip() or None


def read_table(path: Path) -> list[Fields]:
    """Every row of a file, read by what its name ends with.

    Raises UserError when the file cannot be read, or is not of that kind.
    """
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise UserError(f"{path.name} is not one of {', '.join(readers)}: convert it to JSONL.")
    try:
        rows = readers[path.suffix](path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): give a readable file."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error}): save it as UTF-8.") from error
    if not rows:
        raise UserError(f"{path} holds no rows: give a file with questions.")
    return [Fields(row, f"{path.name}, row {number}") for number, row in enumerate(rows, start=1)]


def _read_jsonl(path: Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path.name}, line {number} is not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise UserError(f"{path.name}, line {number} is not a JSON object: write {{…}}.")
        rows.append(row)
    return rows


def _read_csv(path: Path) -> list[Row]:
    # GPQA's fields span lines.
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _read_parquet(path: Path) -> list[Row]:
    # The lightest reader that needs nothing else: half of pyarrow's size.
    import duckdb

    try:
        table = duckdb.read_parquet(str(path))
        names = table.columns
        return [dict(zip(names, values, strict=True)) for values in table.fetchall()]
    except duckdb.Error as error:
        raise UserError(f"{path.name} is not a readable Parquet file ({error}).") from error
