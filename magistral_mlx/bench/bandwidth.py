"""How many bytes a second this machine's memory gives to a kernel that only reads."""

import statistics
import time
from dataclasses import dataclass

import mlx.core as mx

PASSES = 8
LARGEST = 2_000_000_000
"""Bytes of the array: far more than any cache holds, and milliseconds even at 800 GB/s."""

SHARE = 8
"""The array takes this part of the memory limit at most."""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes a second of the fastest pass, for only noise makes one slower; and of the median."""

    fastest: float
    median: float
    array_bytes: int
    passes: int

    def json(self) -> dict[str, float]:
        """In gigabytes a second."""
        return {
            "fastest_gb_s": float(f"{self.fastest / 1e9:.4g}"),
            "median_gb_s": float(f"{self.median / 1e9:.4g}"),
            "array_bytes": self.array_bytes,
            "passes": self.passes,
        }


def measure_bandwidth(*, limit: int, passes: int = PASSES) -> Bandwidth:
    """Add a large array up, several times: of MLX's kernels the one that only waits for memory.

    On one core of the CPU backend other reductions are several times slower than this.

    limit: bytes that this machine may use; what is allocated is given back.
    """
    count = min(LARGEST, limit // SHARE) // 4
    array = mx.arange(count, dtype=mx.uint32)
    mx.eval(array)
    rates = [array.nbytes / _seconds(array) for _ in range(passes + 1)][1:]  # the first warms up
    nbytes = array.nbytes
    del array
    mx.clear_cache()
    return Bandwidth(max(rates), statistics.median(rates), nbytes, passes)


def _seconds(array: mx.array) -> float:
    start = time.perf_counter()
    mx.eval(mx.sum(array))
    return time.perf_counter() - start
