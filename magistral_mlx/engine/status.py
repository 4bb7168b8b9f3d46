"""The engine's state and step times, for metrics."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from magistral_mlx.engine.scheduler import ScheduledSegment


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

    def report(self, segments: Sequence[ScheduledSegment], status: EngineStatus) -> None:
        """A step with these segments has been read."""
        now = time.perf_counter()
        seconds, self._step_began = now - self._step_began, now
        if self._on_step is None:
            return
        report = StepReport(
            seconds=seconds,
            prefill_tokens=sum(segment.tokens for segment in segments),
            decode_tokens=sum(segment.tokens == 0 for segment in segments),
            running=status.running,
            waiting=status.waiting,
            kv_bytes=status.kv_running_bytes + status.kv_stored_bytes,
        )
        try:
            self._on_step(report)
        except Exception:  # the function is the caller's code; the requests continue
            logger.exception("The receiver of step reports failed; it gets no more of them.")
            self._on_step = None
