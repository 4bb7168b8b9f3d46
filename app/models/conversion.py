"""Converting a model from the page, and which Macs the converted model fits."""

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from magistral_mlx.convert import ConversionOptions, Progress, convert
from magistral_mlx.device import mlx_thread
from magistral_mlx.errors import UserError
from magistral_mlx.machine import GIB, mac_limit
from magistral_mlx.memory.byte_counts import weight_bytes
from magistral_mlx.memory.plan import MemoryPlanError, magistral_small, plan

ConversionState = Literal["idle", "running", "done", "failed", "cancelled"]

_RATE_AFTER_SECONDS = 1.0
SHOWN_MEMORY = tuple(size * GIB for size in (16, 24, 32, 36, 48, 64, 96, 128))


class _Cancelled(Exception):
    """Raised through the converter, which keeps what it can resume and removes the rest."""


@dataclass(frozen=True, slots=True)
class ConversionSnapshot:
    """A conversion at one moment.

    progress: bytes done and total, and the tensor; None before the first tensor.
    seconds: the conversion's duration so far, or in all.
    bytes_per_second, seconds_left: None until they can be estimated.
    folder: of the converted model, once it is done; message: why it failed.
    """

    state: ConversionState
    source: str | None = None
    progress: Progress | None = None
    seconds: float = 0.0
    bytes_per_second: float | None = None
    seconds_left: float | None = None
    folder: Path | None = None
    message: str | None = None


class Conversion:
    """At most one conversion at a time, in a thread. Any thread may call any method."""

    def __init__(self) -> None:
        """Nothing is converted yet."""
        self._lock = threading.Lock()  # guards the rest
        self._now = ConversionSnapshot("idle")
        self._begun = 0.0
        self._cancelled = threading.Event()

    def start(self, source: str, *, bits: int = 4, force: bool = False) -> None:
        """Start converting. Raises UserError while another conversion runs.

        Later errors are in the snapshot.
        """
        source = source.strip()
        if not source:
            raise UserError("No model was named: give the folder of a downloaded checkpoint.")
        with self._lock:
            if self._now.state == "running":
                raise UserError(
                    f"{self._now.source} is being converted: wait until that is done, or cancel it."
                )
            self._begun = time.monotonic()
            self._cancelled.clear()
            self._now = ConversionSnapshot("running", source=source)
        threading.Thread(
            target=self._convert, args=(source, bits, force), name="conversion", daemon=True
        ).start()

    def snapshot(self) -> ConversionSnapshot:
        """The conversion as it is now."""
        with self._lock:
            return self._timed()

    def cancel(self) -> None:
        """Stop at the next block of rows; does nothing if no conversion runs."""
        self._cancelled.set()

    @mlx_thread()
    def _convert(self, source: str, bits: int, force: bool) -> None:
        ending = replace(
            self.snapshot(), state="failed", message="The conversion failed: see the log."
        )
        try:
            folder = convert(
                source, options=ConversionOptions(bits=bits, force=force), on_progress=self._take
            )
            ending = replace(ending, state="done", folder=folder, message=None)
        except _Cancelled:
            ending = replace(ending, state="cancelled", message=None)
        except (UserError, OSError) as error:
            ending = replace(ending, message=str(error))
        finally:
            with self._lock:
                self._now = replace(
                    self._timed(),
                    state=ending.state,
                    folder=ending.folder,
                    message=ending.message,
                    seconds_left=None,
                )

    def _take(self, progress: Progress) -> None:
        if self._cancelled.is_set():
            raise _Cancelled
        with self._lock:
            self._now = replace(self._now, progress=progress)

    def _timed(self) -> ConversionSnapshot:
        if self._now.state != "running":
            return self._now
        seconds = time.monotonic() - self._begun
        progress = self._now.progress
        if progress is None or not progress.done or seconds < _RATE_AFTER_SECONDS:
            return replace(self._now, seconds=seconds)
        rate = progress.done / seconds
        left = (progress.total - progress.done) / rate
        return replace(self._now, seconds=seconds, bytes_per_second=rate, seconds_left=left)


@dataclass(frozen=True, slots=True)
class Fit:
    """Magistral Small on a Mac; figures are bytes.

    limit: what macOS lets the GPU use. window: tokens; 0 if the model does not fit. `kv` and
    `left` are None then.
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
        """Whether this Mac can open it."""
        return self.window > 0


def what_fits() -> list[Fit]:
    """A row for each Mac and each number of bits."""
    return [_fit(memory, bits) for memory in SHOWN_MEMORY for bits in (4, 8)]


def _fit(memory: int, bits: int) -> Fit:
    config, limit = magistral_small(bits=bits), mac_limit(memory)
    try:
        made = plan(config, limit)
    except MemoryPlanError:
        weights = weight_bytes(config, config.dtype)
        return Fit(memory, bits, limit.bytes, 0, weights, None, None)
    left = made.prefix_cache + made.headroom
    return Fit(memory, bits, limit.bytes, made.window, made.weights, made.kv, left)
