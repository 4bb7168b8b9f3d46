"""A tensor of a local safetensors file, read by byte range."""

from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np

from magistral_mlx.checkpoint.safetensors_header import TensorEntry
from magistral_mlx.convert.sources.source import READ_AS, Rows, row_bytes
from magistral_mlx.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class FileTensor:
    """Rows of one tensor; memory holds the rows asked for and no more of the file."""

    name: str
    path: Path
    entry: TensorEntry

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    @property
    def dtype(self) -> str:
        return self.entry.dtype

    def read_rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop) in the file's type. Raises CheckpointError when the disk fails."""
        width = row_bytes(self)
        buffer = bytearray((stop - start) * width)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.entry.start + start * width)
                _fill(file, buffer, self.path)
        except OSError as error:
            raise CheckpointError(
                f"{self.path} cannot be read ({error.strerror}): check the disk and run this again."
            ) from error
        numbers = np.frombuffer(buffer, dtype=READ_AS[self.dtype])
        return numbers.reshape(stop - start, *self.shape[1:])


def _fill(file: FileIO, buffer: bytearray, path: Path) -> None:
    """One read may return less than was asked for: at most 2 GiB on Linux."""
    view = memoryview(buffer)
    while view:
        count = file.readinto(view)
        if not count:
            raise CheckpointError(f"{path} became shorter while it was read: run this again.")
        view = view[count:]
