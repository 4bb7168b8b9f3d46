"""Telling whoever wants to know of every step that has been read."""

import logging
import time
from collections.abc import Callable, Sequence

from magistral_mlx.engine.status import EngineStatus, StepReport
from magistral_mlx.engine.scheduler import Share

logger = logging.getLogger(__name__)


class StepReports:
    """Times the steps and hands reports to a function, on the engine's thread."""

    def __init__(self, on_step: Callable[[StepReport], None] | None) -> None:
        self._on_step = on_step
        self._step_began = 0.0

    def begin(self) -> None:
        """A step is sent while none is on its way."""
        self._step_began = time.perf_counter()

    def tell(self, shares: Sequence[Share], status: EngineStatus) -> None:
        """A step with these shares has been read."""
        now = time.perf_counter()
        seconds, self._step_began = now - self._step_began, now
        if self._on_step is None:
            return
        report = StepReport(
            seconds=seconds,
            prefill_tokens=sum(share.tokens for share in shares),
            decode_tokens=sum(share.tokens == 0 for share in shares),
            running=status.running,
            waiting=status.waiting,
            kv_bytes=status.kv_running_bytes + status.kv_stored_bytes,
        )
        try:
            self._on_step(report)
        except Exception:  # whatever the function raises, the requests go on
            logger.exception("The receiver of step reports failed; it gets no more of them.")
            self._on_step = None
