"""The engine's state, and the times of its steps and requests."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from magistral_mlx.events import Timings


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The engine's state after the last step.

    running, waiting: numbers of requests, without idle prompts.
    kv_running_bytes: KV of running sequences, in whole blocks; kv_stored_bytes: prefix cache.
    kv_limit_bytes: the KV budget for both; None: no limit.
    failure: why the engine has died, if known.
    """

    alive: bool
    running: int
    waiting: int
    kv_running_bytes: int
    kv_stored_bytes: int
    kv_limit_bytes: int | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step.

    seconds: since the step before, or since its own dispatch if none was before.
    prefill_tokens: known tokens that it ran; decode_tokens: tokens that the step before drew.
    kv_bytes: KV of running and finished sequences.
    """

    seconds: float
    prefill_tokens: int
    decode_tokens: int
    running: int
    waiting: int
    kv_bytes: int


logger = logging.getLogger(__name__)


class StepReports:
    """Times the steps and reports them to a function, on the engine's thread."""

    def __init__(self, on_step: Callable[[StepReport], None] | None) -> None:
        self._on_step = on_step
        self._step_began = 0.0

    def begin(self) -> None:
        """A step is dispatched while no other is on the device."""
        self._step_began = time.perf_counter()

    def report(self, tokens: Sequence[int], status: EngineStatus) -> None:
        """A step has been read. tokens: the known tokens of each of its segments."""
        now = time.perf_counter()
        seconds, self._step_began = now - self._step_began, now
        if self._on_step is None:
            return
        report = StepReport(
            seconds=seconds,
            prefill_tokens=sum(tokens),
            decode_tokens=sum(known == 0 for known in tokens),
            running=status.running,
            waiting=status.waiting,
            kv_bytes=status.kv_running_bytes + status.kv_stored_bytes,
        )
        try:
            self._on_step(report)
        except Exception:  # the function is the caller's code; the requests continue
            logger.exception("The receiver of step reports failed; it gets no more of them.")
            self._on_step = None


class Stopwatch:
    """Times one request, from the creation of the stopwatch."""

    def __init__(self) -> None:
        self._submitted = time.perf_counter()
        self._prefill: float | None = None
        self._first: float | None = None
        self._last: float | None = None
        self._tokens = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the request was submitted."""
        return time.perf_counter() - self._submitted

    def begin_prefill(self) -> None:
        """Prefill begins now."""
        self._prefill = time.perf_counter()

    def count_token(self) -> None:
        """A drawn token was read."""
        self._last = time.perf_counter()
        self._first = self._first or self._last
        self._tokens += 1

    def timings(self, *, prefilled_tokens: int) -> Timings:
        """The figures so far. Peak memory is that of the process since the engine was idle."""
        return Timings(
            seconds_to_first_token=_difference(self._first, self._submitted),
            prefill_tokens_per_second=_rate(
                prefilled_tokens, _difference(self._first, self._prefill)
            ),
            decode_tokens_per_second=_rate(self._tokens - 1, _difference(self._last, self._first)),
            total_seconds=self.elapsed,
            peak_memory_bytes=mx.get_peak_memory(),
        )


def _difference(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else later - earlier


def _rate(tokens: int, seconds: float | None) -> float | None:
    return tokens / seconds if seconds and tokens > 0 else None
