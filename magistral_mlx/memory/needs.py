"""What a model asks of a memory limit, for any window and precision of its KV."""

from dataclasses import dataclass, replace
from typing import Self

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.device import dtype_of
from magistral_mlx.machine import MemoryLimit
from magistral_mlx.memory.byte_counts import kv_bytes_per_token, step_bytes, weight_bytes

QUANTISED_KV_BITS = (8, 4)
WINDOW_STEP = 256


@dataclass(frozen=True, slots=True)
class Budget:
    """What is asked of the limit, but for window and KV precision; config: of one rank's part."""

    config: ModelConfig
    limit: MemoryLimit
    dtype: str
    sequences: int
    chunk: int
    on_gpu: bool
    ranks: int

    @property
    def full_bits(self) -> int:
        """Of a value as computed."""
        return 8 * dtype_of(self.dtype).size

    @property
    def kv_bits(self) -> tuple[int, ...]:
        """The precisions that are possible, the finest first."""
        divisible = self.config.head_dim % 32 == 0
        return (self.full_bits, *(QUANTISED_KV_BITS if divisible else ()))

    @property
    def weights(self) -> int:
        """Bytes of the weights."""
        return weight_bytes(self.config, self.dtype)

    def kv(self, bits: int, window: int) -> int:
        """Bytes of all sequences' KV."""
        return kv_bytes_per_token(self.config, self.dtype, bits=bits) * window * self.sequences

    def step(self, bits: int, window: int, *, draws: bool = True) -> int:
        """Bytes of the largest step beside weights and KV; draws: whether it ends in logits."""
        return step_bytes(
            self.config,
            self.dtype,
            tokens=self.chunk + self.sequences,
            sampled=self.sequences if draws else 0,
            window=window,
            on_gpu=self.on_gpu,
            kv_bits=bits,
        )

    def on(self, limit: MemoryLimit) -> Self:
        """The same on other machines, all of this limit."""
        return replace(self, limit=limit)

    def total(self, bits: int, window: int) -> int:
        """Bytes of all three."""
        return self.weights + self.kv(bits, window) + self.step(bits, window)

    def fits(self, bits: int, window: int) -> bool:
        """Whether they are within the limit."""
        return self.total(bits, window) <= self.limit.bytes

    def longest_window(self, bits: int) -> int:
        """The checkpoint's maximum, or the whole steps of WINDOW_STEP that fit (0: none)."""
        low, high = 0, -(-self.config.max_position_embeddings // WINDOW_STEP)
        if self.fits(bits, self.config.max_position_embeddings):
            return self.config.max_position_embeddings
        while low < high - 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.fits(bits, middle * WINDOW_STEP) else (low, middle)
        return low * WINDOW_STEP
