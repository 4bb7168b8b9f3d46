"""What a conversion will give, said before it starts: bytes, bits a weight, fit."""

from math import prod

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.weight_shapes import plain_shapes
from magistral_mlx.device import on_cpu
from magistral_mlx.machine import machine_limit
from magistral_mlx.memory.byte_counts import weight_bytes
from magistral_mlx.memory.needs import Workload
from magistral_mlx.memory.plan import MemoryPlanError, gigabytes, plan


def size_note(config: ModelConfig, recipe: str) -> str:
    """One line: the recipe's bytes and bits a weight, and the window that fits this machine."""
    nbytes = weight_bytes(config, config.dtype)
    weights = sum(prod(shape) for shape in plain_shapes(config).values())
    size = f"{recipe}: {gigabytes(nbytes)}, {8 * nbytes / weights:.2f} bits a weight."
    try:
        fit = plan(config, machine_limit(), Workload(on_gpu=not on_cpu()))
    except MemoryPlanError as error:
        return f"{size} {error}"
    return (
        f"{size} On this machine ({gigabytes(fit.limit)}): a window of {fit.window:,} tokens, "
        f"KV cache {gigabytes(fit.kv)} at {fit.kv_bits} bits, {gigabytes(fit.headroom)} left."
    )
