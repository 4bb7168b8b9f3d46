"""How far a conversion is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of source weights converted so far, of all, and the tensor that is being read."""

    done: int
    total: int
    tensor: str


ProgressCallback = Callable[[Progress], None]
