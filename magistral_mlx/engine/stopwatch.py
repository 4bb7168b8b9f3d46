"""Times of one request: submission, prefill, decoding."""

import time

import mlx.core as mx

from magistral_mlx.events import Timings


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
