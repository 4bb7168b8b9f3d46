"""A run on disk: its settings, and every sample from the moment it is finished.

settings.json is written once; samples.jsonl gets one line a sample, on the disk before the next
one is waited for. A process may be killed at any point: the line that it was writing is cut off
when the run goes on, and that sample is drawn again.
"""

import fcntl
import json
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from magistral_mlx.errors import UserError
from magistral_mlx.evaluation.run_settings import RunSettings
from magistral_mlx.evaluation.sample import Sample, read_sample, sample_line

SETTINGS_FILE = "settings.json"
SAMPLES_FILE = "samples.jsonl"


class RunFolder:
    """One run's folder, open for this process alone; use it with `with`."""

    def __init__(self, folder: Path, settings: RunSettings) -> None:
        """Make the folder, or go on with what it holds.

        Raises UserError when it holds a run with other settings, is in use, is damaged, or cannot
        be written.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / SAMPLES_FILE).open("a+b")
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror}): choose another with --output."
            ) from error
        try:
            self._lock()
            self._check_settings(settings)
            self.samples = self._read_samples()
        except UserError:
            self._file.close()
            raise

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, sample: Sample) -> None:
        """Keep a sample: when this returns, it is on the disk. Raises UserError when it is full."""
        try:
            self._file.write(sample_line(sample).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UserError(
                f"{self._file.name} cannot be written ({error.strerror}): make room, and run the "
                "same command again."
            ) from error
        self.samples.append(sample)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{self.folder} is in use by another process: wait for it, or choose another "
                "folder with --output."
            ) from error

    def _check_settings(self, settings: RunSettings) -> None:
        path = self.folder / SETTINGS_FILE
        wanted = asdict(settings)
        if not path.exists():
            _write_durably(path, json.dumps(wanted, indent=2) + "\n")
            return
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}): choose another --output.") from error
        changed = [
            f"{name} {there.get(name)} there and {value} now"
            for name, value in wanted.items()
            if there.get(name) != value
        ]
        if changed:
            raise UserError(
                f"{self.folder} holds a run with other settings ({'; '.join(changed)}): set them "
                "as there, or choose another --output."
            )

    def _read_samples(self) -> list[Sample]:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)  # cut off in the middle of a line
        lines = content[:whole].splitlines()
        return [self._sample(line, number) for number, line in enumerate(lines, start=1)]

    def _sample(self, line: bytes, number: int) -> Sample:
        try:
            return read_sample(line.decode())
        except ValueError as error:
            raise UserError(
                f"{self._file.name}, line {number} is damaged ({error}): delete that line, and "
                "its sample is drawn again."
            ) from error


def _write_durably(path: Path, text: str) -> None:
    """All of a file or none of it, also when the machine stops."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
