"""Bytes that a model needs, for any window and precision of its KV, against a memory limit."""

from dataclasses import dataclass, replace
from typing import Self

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.device import compute_dtype, dtype_name, dtype_of, on_cpu
from magistral_mlx.machine import MemoryLimit
from magistral_mlx.memory.byte_counts import kv_bytes_per_token, step_bytes, weight_bytes

PREFILL_TOKENS = 512
"""Most prompt tokens in one step."""

QUANTISED_KV_BITS = (8, 4)
WINDOW_STEP = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a model has to run, and how it computes.

    window: tokens that a sequence may hold; None: as many as fit, up to the model card's window.
    kv_bits: precision of the KV cache; None: the finest that holds the window.
    sequences: running at once, each with a full window.
    dtype: name of the type to compute in; None: the checkpoint's.
    on_gpu: whether attention is fused, as on Metal and CUDA; MLX's CPU backend stores blocks of
        scores.
    """

    window: int | None = None
    kv_bits: int | None = None
    sequences: int = 1
    dtype: str | None = None
    on_gpu: bool = True

    def on_this_machine(self, config: ModelConfig) -> Self:
        """The same with this machine's attention and, unless chosen, its compute type."""
        dtype = self.dtype or dtype_name(compute_dtype(config.dtype))
        return replace(self, dtype=dtype, on_gpu=not on_cpu())


@dataclass(frozen=True, slots=True)
class Needs:
    """What one rank's part of a model needs.

    config: of that part. limit: of one rank.
    """

    config: ModelConfig
    limit: MemoryLimit
    workload: Workload
    ranks: int

    @property
    def dtype(self) -> str:
        """Name of the compute type."""
        return self.workload.dtype or self.config.dtype

    @property
    def full_bits(self) -> int:
        """Bits of a value of the compute type."""
        return 8 * dtype_of(self.dtype).size

    @property
    def kv_bits(self) -> tuple[int, ...]:
        """The possible precisions of KV, the finest first."""
        divisible = self.config.head_dim % 32 == 0
        return (self.full_bits, *(QUANTISED_KV_BITS if divisible else ()))

    @property
    def weights(self) -> int:
        """Bytes of the weights."""
        return weight_bytes(self.config, self.dtype)

    def kv(self, bits: int, window: int) -> int:
        """Bytes of all sequences' KV."""
        token = kv_bytes_per_token(self.config, self.dtype, bits=bits)
        return token * window * self.workload.sequences

    def step(self, bits: int, window: int, *, draws: bool = True) -> int:
        """Bytes of the largest step beside weights and KV; draws: whether it ends in logits."""
        sequences = self.workload.sequences
        return step_bytes(
            self.config,
            self.dtype,
            tokens=PREFILL_TOKENS + sequences,
            sampled=sequences if draws else 0,
            window=window,
            on_gpu=self.workload.on_gpu,
            kv_bits=bits,
        )

    def total(self, bits: int, window: int) -> int:
        """Bytes of weights, KV and step."""
        return self.weights + self.kv(bits, window) + self.step(bits, window)

    def fits(self, bits: int, window: int) -> bool:
        """Whether the total is within the limit."""
        return self.total(bits, window) <= self.limit.bytes

    def on(self, limit: MemoryLimit) -> Self:
        """The same on machines with another limit."""
        return replace(self, limit=limit)

    def longest_window(self, bits: int) -> int:
        """The checkpoint's maximum if it fits, else the most tokens in steps of WINDOW_STEP."""
        low, high = 0, -(-self.config.max_position_embeddings // WINDOW_STEP)
        if self.fits(bits, self.config.max_position_embeddings):
            return self.config.max_position_embeddings
        while low < high - 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.fits(bits, middle * WINDOW_STEP) else (low, middle)
        return low * WINDOW_STEP
