"""MLX: its device, the types that weights are stored and computed in, its memory limits."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import mlx.core as mx

from magistral_mlx.errors import RequestError

DTYPES = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}
"""Types to compute in, by name."""

SAFETENSORS_DTYPES = {
    "BF16": mx.bfloat16,
    "F16": mx.float16,
    "F32": mx.float32,
    "U32": mx.uint32,
    "U8": mx.uint8,
}
"""Types of the tensors that the runtime reads and writes, by their names in safetensors."""


def dtype_of(name: str) -> mx.Dtype:
    """The type called bfloat16, float16 or float32. Raises RequestError for another name."""
    if name not in DTYPES:
        raise RequestError(f"dtype {name!r} is unknown: use one of {', '.join(DTYPES)}.")
    return DTYPES[name]


def dtype_name(dtype: mx.Dtype) -> str:
    """For example "bfloat16"."""
    return str(dtype).removeprefix("mlx.core.")


def safetensors_name(dtype: mx.Dtype) -> str:
    """For example "BF16"."""
    return next(name for name, known in SAFETENSORS_DTYPES.items() if known == dtype)


def on_cpu() -> bool:
    """Whether MLX computes on its CPU backend."""
    return mx.default_device().type == mx.DeviceType.cpu


def has_metal() -> bool:
    """Whether this is a Mac with Metal."""
    return mx.metal.is_available()


def compute_dtype(stored: str) -> mx.Dtype:
    """The type to compute in: the one that weights are stored in, or float32 on the CPU.

    On MLX's CPU backend, 4-bit matrix products are several times faster in float32 than in 16
    bits.
    """
    return mx.float32 if on_cpu() else DTYPES[stored]


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """How a process uses MLX.

    dtype: the type to compute in; None: `compute_dtype` of the checkpoint's.
    spare_bytes: most freed memory that MLX keeps for the next arrays; None: MLX's default.
    wired_bytes: memory that macOS must not page out; None: MLX's default.
    """

    dtype: mx.Dtype | None = None
    spare_bytes: int | None = None
    wired_bytes: int | None = None

    def compute_dtype(self, stored: str) -> mx.Dtype:
        """The type to compute in, for weights that are stored in a type of this name."""
        return self.dtype or compute_dtype(stored)

    def set_limits(self) -> Callable[[], None]:
        """Set both limits, for the whole process; the returned function restores the old ones."""
        limits = ExitStack()
        if self.spare_bytes is not None:
            limits.callback(mx.set_cache_limit, mx.set_cache_limit(self.spare_bytes))
        if self.wired_bytes is not None:
            limits.callback(mx.set_wired_limit, mx.set_wired_limit(self.wired_bytes))
        return limits.close


@contextmanager
def mlx_thread() -> Iterator[None]:
    """Run a thread's MLX work inside: without the cleanup at its end, the process may abort."""
    try:
        yield
    finally:
        mx.clear_streams()
