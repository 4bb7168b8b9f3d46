"""A quantised matrix of an MLX folder, dequantised as it is read, to be quantised again."""

from dataclasses import dataclass

import numpy as np

from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.sources.source import Rows, StoredTensor
from magistral_mlx.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class MlxTensor:
    """Rows of a matrix in MLX's affine format, as float32."""

    weight: StoredTensor
    scales: StoredTensor
    biases: StoredTensor | None
    quantization: Quantization

    def __post_init__(self) -> None:
        if self.biases is None or not self.quantization.has_biases:
            raise CheckpointError(
                f"{self.weight.name} is stored as {self.quantization.mode}, which is not read back "
                "here: convert the bfloat16 weights that it was made from."
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
        """Rows [start, stop). Raises CheckpointError when the disk fails."""
        size = self.quantization.group_size
        steps = _unpack(self.weight.read_rows(start, stop), self.quantization.bits)
        groups = steps.reshape(stop - start, -1, size)
        assert self.biases is not None, "checked when the source was opened"
        scales, biases = (
            _floats(part.read_rows(start, stop), part.dtype)[..., None]
            for part in (self.scales, self.biases)
        )
        return (groups * scales + biases).reshape(stop - start, -1).view(np.uint32)


def _unpack(words: Rows, bits: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The stream of bits as numbers, each number's lowest bit first."""
    stream = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    values = stream.reshape(words.shape[0], -1, bits)
    return np.asarray(values @ (1 << np.arange(bits)).astype(np.float32), dtype=np.float32)


def _floats(rows: Rows, dtype: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if dtype == "BF16":
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return rows.view(np.float16 if dtype == "F16" else np.float32).astype(np.float32)
