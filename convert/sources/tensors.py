"""Tensors of safetensors files: plain, or quantised in MLX's affine format."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.checkpoint.safetensors_header import TensorEntry
from magistral_mlx.convert.sources.remote_file import RemoteFile
from magistral_mlx.convert.sources.source import READ_AS, Rows, row_bytes
from magistral_mlx.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine."""

    path: Path

    def read(self, start: int, stop: int) -> bytearray:
        """Bytes [start, stop). Raises CheckpointError when the disk fails."""
        buffer = bytearray(stop - start)
        view = memoryview(buffer)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                while view:  # Linux returns at most 2 GiB from one read
                    count = file.readinto(view)
                    if not count:
                        raise CheckpointError(
                            f"{self.path} became shorter while it was read: run this again."
                        )
                    view = view[count:]
        except OSError as error:
            raise CheckpointError(
                f"{self.path} cannot be read ({error.strerror}): check the disk and run this again."
            ) from error
        return buffer


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor of a safetensors file; memory holds only the rows being read."""

    name: str
    file: LocalFile | RemoteFile
    entry: TensorEntry

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    @property
    def dtype(self) -> str:
        return self.entry.dtype

    def read_rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop) in the file's type. Raises what the file's `read` raises."""
        width = row_bytes(self)
        first = self.entry.start + start * width
        data = self.file.read(first, first + (stop - start) * width)
        return np.frombuffer(data, dtype=READ_AS[self.dtype]).reshape(stop - start, *self.shape[1:])


def local_tensor(name: str, place: tuple[Path, TensorEntry]) -> FileTensor:
    """A tensor of a local file, from `checkpoint.folder.read_entries`."""
    path, entry = place
    return FileTensor(name, LocalFile(path), entry)


@dataclass(frozen=True, slots=True)
class MlxTensor:
    """A matrix in MLX's affine format, dequantised to float32 as it is read."""

    weight: FileTensor
    scales: FileTensor
    biases: FileTensor | None
    quantization: Quantization

    def __post_init__(self) -> None:
        if self.biases is None or not self.quantization.has_biases:
            raise CheckpointError(
                f"{self.weight.name} is stored as {self.quantization.mode}, which the converter "
                "does not read: convert the bfloat16 weights instead."
            )

    @property
    def name(self) -> str:
        return self.weight.name

    @property
    def shape(self) -> tuple[int, ...]:
        rows, words = self.weight.shape
        return rows, words * 32 // self.quantization.bits

    @property
    def dtype(self) -> str:
        return "F32"

    def read_rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop) as float32. Raises CheckpointError when the disk fails."""
        assert self.biases is not None, "checked when the source was opened"
        steps = _unpack(self.weight.read_rows(start, stop), self.quantization.bits)
        groups = steps.reshape(stop - start, -1, self.quantization.group_size)
        scales, biases = (
            _floats(part.read_rows(start, stop), part.dtype)[..., None]
            for part in (self.scales, self.biases)
        )
        return (groups * scales + biases).reshape(stop - start, -1).view(np.uint32)


def _unpack(words: Rows, bits: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Packed numbers of `bits` bits, lowest bit first, as float32."""
    stream = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    values = stream.reshape(words.shape[0], -1, bits)
    return np.asarray(values @ (1 << np.arange(bits)).astype(np.float32), dtype=np.float32)


def _floats(rows: Rows, dtype: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if dtype == "BF16":
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return rows.view(np.float16 if dtype == "F16" else np.float32).astype(np.float32)
