"""What the engine asks of MLX."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """What the thread asks of MLX.

    dtype: to compute in; None: the checkpoint's, or float32 on the CPU.
    spare_bytes: most freed memory that MLX keeps for the next arrays; None: as MLX likes.
    wired_bytes: that macOS must not page out; None: MLX's wired limit is left alone.
    """

    dtype: mx.Dtype | None = None
    spare_bytes: int | None = None
    wired_bytes: int | None = None

    def set_limits(self) -> Callable[[], None]:
        """They are the whole process's, so what is returned sets them back."""
        limits = ExitStack()
        if self.spare_bytes is not None:
            limits.callback(mx.set_cache_limit, mx.set_cache_limit(self.spare_bytes))
        if self.wired_bytes is not None:
            limits.callback(mx.set_wired_limit, mx.set_wired_limit(self.wired_bytes))
        return limits.close


@contextmanager
def mlx_thread() -> Iterator[None]:
    """Around what a thread runs: what MLX keeps for it goes first, or the process may abort."""
    try:
        yield
    finally:
        mx.clear_streams()
