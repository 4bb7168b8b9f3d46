"""Threads that compute with MLX."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx


@contextmanager
def mlx_thread() -> Iterator[None]:
    """Around what a thread runs: what MLX keeps for it goes first, or the process may abort."""
    try:
        yield
    finally:
        mx.clear_streams()
