"""A tensor of a local safetensors file, read by byte range."""

from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import mlx.core as mx
import numpy as np

from magistral_mlx.convert.source import row_bytes
from magistral_mlx.errors import CheckpointError
from magistral_mlx.safetensors_header import TensorEntry

# NumPy has no bfloat16: two-byte floats are read as whole numbers and viewed as what they are.
READ_AS = {"BF16": np.uint16, "F16": np.uint16, "F32": np.uint32}
VIEW_AS = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}


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

    def read_rows(self, start: int, stop: int) -> mx.array:
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
        shape = (stop - start, *self.shape[1:])
        return mx.array(numbers.reshape(shape)).view(VIEW_AS[self.dtype])


def _fill(file: FileIO, buffer: bytearray, path: Path) -> None:
    """One read may return less than was asked for: at most 2 GiB on Linux."""
    view = memoryview(buffer)
    while view:
        count = file.readinto(view)
        if not count:
            raise CheckpointError(f"{path} became shorter while it was read: run this again.")
        view = view[count:]
