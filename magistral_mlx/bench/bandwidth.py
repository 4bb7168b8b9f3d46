"""Memory bandwidth, measured here or published for a Mac, and the decode rate that it allows."""

import json
import statistics
from dataclasses import dataclass
from functools import partial
from importlib import resources

import mlx.core as mx

from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.spread import four_digits, seconds_of
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.device import dtype_of
from magistral_mlx.errors import RequestError
from magistral_mlx.memory.byte_counts import kv_bytes_per_token, tensor_bytes, weight_bytes

PASSES = 8
LARGEST = 2_000_000_000
"""Bytes of the array: far more than any cache holds, and milliseconds even at 800 GB/s."""

LIMIT_SHARE = 8
"""The array takes at most this part of the memory limit."""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes per second: of the fastest pass, since noise only slows passes down; and the median."""

    fastest: float
    median: float
    array_bytes: int
    passes: int

    def json(self) -> dict[str, float]:
        """In gigabytes per second."""
        return {
            "fastest_gb_s": four_digits(self.fastest / 1e9),
            "median_gb_s": four_digits(self.median / 1e9),
            "array_bytes": self.array_bytes,
            "passes": self.passes,
        }


def measure_bandwidth(*, limit: int, passes: int = PASSES) -> Bandwidth:
    """Sum a large array several times: the MLX kernel that does nothing but wait for memory.

    On one core of the CPU backend other reductions are several times slower.

    limit: bytes of memory that this machine may use; the array is freed again.
    """
    count = min(LARGEST, limit // LIMIT_SHARE) // 4
    array = mx.arange(count, dtype=mx.uint32)
    mx.eval(array)
    run = partial(_sum, array)
    rates = [array.nbytes / seconds_of(run) for _ in range(passes + 1)][1:]  # the first warms up
    nbytes = array.nbytes
    del array, run
    mx.clear_cache()
    return Bandwidth(max(rates), statistics.median(rates), nbytes, passes)


def _sum(array: mx.array) -> None:
    mx.eval(mx.sum(array))


def decode_weight_bytes(config: ModelConfig, dtype: str) -> int:
    """Bytes of weights that a decode step reads: all but the unused rows of the embedding."""
    if config.tie_word_embeddings:  # then the head reads the embedding
        return weight_bytes(config, dtype)
    tensors = tensor_bytes(config, dtype)
    return sum(tensors[name] for name in tensors if not name.startswith("model.embed_tokens."))


def step_bytes_read(config: ModelConfig, dtype: str, case: Case) -> float:
    """Bytes that a decode step reads: the weights once, and the KV of every stream."""
    full = 8 * dtype_of(dtype).size
    bits = full if case.precision.bits is None else case.precision.bits
    kv = kv_bytes_per_token(config, dtype, bits=bits) * case.context * case.streams
    return decode_weight_bytes(config, dtype) + kv


def decode_bound(config: ModelConfig, dtype: str, case: Case, *, bandwidth: float) -> float:
    """Tokens per second of all streams that `bandwidth` bytes per second allow."""
    return case.streams * bandwidth / step_bytes_read(config, dtype, case)


@dataclass(frozen=True, slots=True)
class Chip:
    """bandwidth: bytes per second, as published."""

    name: str
    bandwidth: float


def published_chips() -> list[Chip]:
    """All chips of chips.json."""
    text = (resources.files("magistral_mlx.bench") / "chips.json").read_text(encoding="utf-8")
    return [Chip(row["name"], row["bandwidth"] * 1e9) for row in json.loads(text)["chips"]]


def choose_chips(words: str) -> list[Chip]:
    """Chips by the start of their name ("M4": M4, M4 Pro and M4 Max), or "all" or "none".

    Raises RequestError when there is no such chip.
    """
    chips = published_chips()
    wanted = words.strip().casefold()
    if wanted in ("all", "none"):
        return chips if wanted == "all" else []
    found = [chip for chip in chips if chip.name.casefold().startswith(wanted)]
    if not found:
        names = ", ".join(chip.name for chip in chips)
        raise RequestError(f"There is no chip {words!r}: choose one of {names}, or all or none.")
    return found


def predict(config: ModelConfig, case: Case, chip: Chip, *, reached: float) -> float:
    """Tokens per second on a chip that reaches the same fraction of its bound: no measurement.

    A GPU computes in 16 bits, whatever type was used here.
    """
    return reached * decode_bound(config, "bfloat16", case, bandwidth=chip.bandwidth)
