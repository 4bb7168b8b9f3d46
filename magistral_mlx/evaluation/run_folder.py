"""A run on disk: its settings and its samples.

settings.json is written once. samples.jsonl gets a line for each finished sample, flushed to disk
before the next. A process may be killed at any point: resuming cuts off an incomplete line and
draws that sample again.
"""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from magistral_mlx.errors import UserError
from magistral_mlx.evaluation.sample import Sample, read_sample, sample_line

SETTINGS_FILE = "settings.json"
SAMPLES_FILE = "samples.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Everything that a sample depends on, beside the question and the sample's index.

    A run resumes only with equal settings. fingerprint: of the model's files; device: where MLX
    computes; kv_bits: of the KV cache.
    """

    questions: str
    model: str
    fingerprint: str
    device: str
    dtype: str
    window: int
    kv_bits: int
    kv_start: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    max_tokens: int | None
    thinking_budget: int | None
    reasoning: str

    @property
    def digest(self) -> str:
        """8 hex digits, for a folder's name."""
        return sha256(json.dumps(asdict(self)).encode()).hexdigest()[:8]


class RunFolder:
    """The folder of a run, locked for this process; use it in a `with` block."""

    def __init__(self, folder: Path, settings: RunSettings) -> None:
        """Create the folder, or resume the run in it.

        Raises UserError if it holds a run with other settings, is in use, is damaged, or cannot be
        written.
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

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, sample: Sample) -> None:
        """Write a sample to disk before returning. Raises UserError if the disk is full."""
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
            f"{name} {there.get(name)} then, {value} now"
            for name, value in wanted.items()
            if there.get(name) != value
        ]
        if changed:
            raise UserError(
                f"{self.folder} holds a run with other settings ({'; '.join(changed)}): use the "
                "same settings, or choose another --output."
            )

    def _read_samples(self) -> list[Sample]:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)  # a process was killed while it wrote
        lines = content[:whole].splitlines()
        return [self._sample(line, number) for number, line in enumerate(lines, start=1)]

    def _sample(self, line: bytes, number: int) -> Sample:
        try:
            return read_sample(line.decode())
        except ValueError as error:
            raise UserError(
                f"{self._file.name}, line {number} is damaged ({error}): delete that line; its "
                "sample will be drawn again."
            ) from error


def _write_durably(path: Path, text: str) -> None:
    """Write the whole file or nothing, also if the machine crashes."""
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
