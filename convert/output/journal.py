"""The journal of a conversion: which tensors are finished, so that a killed run goes on there.

The first line says what is converted and how, every further one a finished tensor of the source
with the SHA-256 of what was stored for it. A torn last line is a tensor that is converted again.
What was recorded is believed only when the file's bytes have that checksum.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from magistral_mlx.convert.rounding.weight_error import WeightError
from magistral_mlx.errors import CheckpointError

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Finished:
    """A tensor of the source that was converted; digests (hex) of the stored tensors by name."""

    tensor: str
    digests: Mapping[str, str]
    error: WeightError | None


class Journal:
    """Appends to the journal's file. A context manager: leaving it closes the file."""

    def __init__(self, path: Path, task: Mapping[str, object]) -> None:
        self._file = path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self._append({"format_version": FORMAT_VERSION, "task": task})
        elif not path.read_bytes().endswith(b"\n"):
            self._file.write("\n")  # after a torn line

    def record(self, finished: Finished) -> None:
        """Note a tensor whose bytes were handed to the operating system."""
        error = finished.error
        self._append(
            {
                "tensor": finished.tensor,
                "sha256": dict(finished.digests),
                "error": None if error is None else [error.mean, error.largest],
            }
        )

    def _append(self, line: Mapping[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Put the journal on the disk."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def read_task(path: Path) -> Mapping[str, object] | None:
    """What the journal's run converts and how; None when there is no journal to go on from."""
    first = next(_lines(path), {})
    task = first.get("task")
    if first.get("format_version") != FORMAT_VERSION or not isinstance(task, dict):
        return None
    return task


def read_finished(path: Path) -> dict[str, Finished]:
    """The finished tensors by name, as far as the journal can be read."""
    lines = _lines(path)
    next(lines, None)
    found = (_finished(line) for line in lines)
    return {finished.tensor: finished for finished in found if finished is not None}


def has_finished_tensors(path: Path) -> bool:
    """Whether a run has left something to go on from."""
    return read_task(path) is not None and bool(read_finished(path))


def check_task(path: Path, task: Mapping[str, object], output: Path) -> None:
    """Refuse to go on with another task than the journal's. Raises CheckpointError.

    Mixing two sources or settings in one folder would be silent damage.
    """
    begun = read_task(path)
    if begun is None or begun == task:
        return
    names = sorted(begun.keys() | task.keys())
    changes = ", ".join(
        f"{name} ({_difference(begun.get(name), task.get(name))})"
        for name in names
        if begun.get(name) != task.get(name)
    )
    raise CheckpointError(
        f"{output} was begun and not finished, and since then this has changed: {changes}. "
        "Convert as before to go on, or begin anew with --restart."
    )


def _difference(before: object, now: object) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        return ", ".join(f"{key} {_difference(before.get(key), now.get(key))}" for key in keys)
    return f"was {_short(before)}, is {_short(now)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _finished(line: Mapping[str, object]) -> Finished | None:
    tensor, digests, error = line.get("tensor"), line.get("sha256"), line.get("error")
    if not isinstance(tensor, str) or not isinstance(digests, dict):
        return None
    return Finished(tensor, digests, WeightError(*error) if isinstance(error, list) else None)


def _lines(path: Path) -> Iterator[dict[str, object]]:
    if not path.is_file():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        yield line if isinstance(line, dict) else {}
