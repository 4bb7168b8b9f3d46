"""On which Macs Magistral Small fits, by the memory plan."""

from collections.abc import Sequence
from dataclasses import dataclass

from magistral_mlx.machine import GIB, mac_limit
from magistral_mlx.memory.byte_counts import weight_bytes
from magistral_mlx.memory.plan import MemoryPlanError, magistral_small, plan

SHOWN_MEMORY = tuple(size * GIB for size in (16, 24, 32, 36, 48, 64, 96, 128))


@dataclass(frozen=True, slots=True)
class Fit:
    """Magistral Small on a Mac; figures are bytes.

    limit: what macOS lets the GPU use. window: tokens; 0 where the model does not fit, and then
    `kv` and `left` are None.
    """

    memory: int
    bits: int
    limit: int
    window: int
    weights: int
    kv: int | None
    left: int | None

    @property
    def fits(self) -> bool:
        """Whether it can be opened there."""
        return self.window > 0


def what_fits(memory: Sequence[int] = SHOWN_MEMORY, bits: Sequence[int] = (4, 8)) -> list[Fit]:
    """A row for each Mac and each number of bits."""
    return [_fit(size, count) for size in memory for count in bits]


def _fit(memory: int, bits: int) -> Fit:
    config, limit = magistral_small(bits=bits), mac_limit(memory)
    try:
        made = plan(config, limit)
    except MemoryPlanError:
        weights = weight_bytes(config, config.dtype)
        return Fit(memory, bits, limit.bytes, 0, weights, None, None)
    left = made.prefix_cache + made.headroom
    return Fit(memory, bits, limit.bytes, made.window, made.weights, made.kv, left)
