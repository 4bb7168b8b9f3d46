"""The journal of a conversion: its finished tensors, so that an interrupted one resumes.

The first line is the task. Each further line is a finished tensor of the source, with the SHA-256
of its stored bytes, which is checked before the conversion resumes. A tensor whose line is torn is
converted again.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from magistral_mlx.convert.rounding.stored_form import WeightError
from magistral_mlx.errors import CheckpointError

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class FinishedTensor:
    """A converted tensor of the source. digests: SHA-256 (hex) of the stored tensors by name."""

    tensor: str
    digests: Mapping[str, str]
    error: WeightError | None


class ConversionJournal:
    """Appends to the journal's file. A context manager, which closes the file."""

    def __init__(self, path: Path, task: Mapping[str, object]) -> None:
        self._file = path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self._append({"format_version": FORMAT_VERSION, "task": task})
        elif not path.read_bytes().endswith(b"\n"):
            self._file.write("\n")  # after a torn line

    def record(self, finished: FinishedTensor) -> None:
        """Record a tensor that is written."""
        error = finished.error
        self._append(
            {
                "tensor": finished.tensor,
                "sha256": dict(finished.digests),
                "error": None if error is None else [error.mean, error.largest],
            }
        )

    def sync(self) -> None:
        """Flush the journal to the disk."""
        os.fsync(self._file.fileno())

    def _append(self, line: Mapping[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_task(path: Path) -> Mapping[str, object] | None:
    """The task of the journal's run; None when there is no run to resume."""
    first = next(_lines(path), {})
    task = first.get("task")
    if first.get("format_version") != FORMAT_VERSION or not isinstance(task, dict):
        return None
    return task


def read_finished(path: Path) -> dict[str, FinishedTensor]:
    """The finished tensors by name, from all readable lines."""
    lines = _lines(path)
    next(lines, None)
    found = map(_finished, lines)
    return {finished.tensor: finished for finished in found if finished is not None}


def has_finished_tensors(path: Path) -> bool:
    """Whether there is a run to resume."""
    return read_task(path) is not None and bool(read_finished(path))


def check_task(path: Path, task: Mapping[str, object], output: Path) -> None:
    """Refuse to resume a run with another task. Raises CheckpointError.

    Otherwise one folder would silently mix two sources or settings.
    """
    begun = read_task(path)
    if begun is None or begun == task:
        return
    raise CheckpointError(
        f"{output} is an unfinished conversion, and this has changed since: "
        f"{_changes(begun, task)}. Convert as before to resume, or start again with --restart."
    )


def _changes(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return ", ".join(f"{name} {_difference(before.get(name), now.get(name))}" for name in names)


def _difference(before: object, now: object) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        return f"({_changes(before, now)})"
    return f"was {_short(before)}, is {_short(now)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _finished(line: Mapping[str, object]) -> FinishedTensor | None:
    tensor, digests, error = line.get("tensor"), line.get("sha256"), line.get("error")
    if not isinstance(tensor, str) or not isinstance(digests, dict):
        return None
    return FinishedTensor(tensor, digests, WeightError(*error) if isinstance(error, list) else None)


def _lines(path: Path) -> Iterator[dict[str, object]]:
    if not path.is_file():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        yield line if isinstance(line, dict) else {}
