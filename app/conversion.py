"""Converting a model from the page: started, watched, cancelled; and what fits on which Mac."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from magistral_mlx.convert import Progress
from magistral_mlx.memory_limit import GIB

ConversionState = Literal["idle", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class ConversionSnapshot:
    """A conversion at one moment.

    progress: bytes done and total, and the tensor; None before the first.
    bytes_per_second, seconds_left: None where nothing can be said yet.
    """

    version: int
    state: ConversionState
    source: str | None
    progress: Progress | None
    seconds: float
    bytes_per_second: float | None
    seconds_left: float | None
    folder: Path | None
    message: str | None


class Conversion:
    """At most one conversion at a time, in a thread. Any thread may call any method."""

    def __init__(self) -> None:
        """Nothing is converted yet."""
        raise NotImplementedError

    def start(self, source: str, *, bits: int = 4, force: bool = False) -> None:
        """Begin. Raises UserError while another runs; what is wrong later fails the snapshot."""
        raise NotImplementedError

    def snapshot(self) -> ConversionSnapshot:
        """The conversion as it is now."""
        raise NotImplementedError

    def wait(self, version: int, timeout: float | None = None) -> ConversionSnapshot:
        """The conversion as soon as it is newer than `version`, or as it is after the timeout."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End it at the next block of rows."""
        raise NotImplementedError


SHOWN_MEMORY = tuple(size * GIB for size in (16, 24, 32, 36, 48, 64, 96, 128))


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether Magistral Small fits a Mac; bytes. window is 0, and the rest None, if it does not."""

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
    """A row for each Mac and each number of bits, by the memory plan."""
    raise NotImplementedError
