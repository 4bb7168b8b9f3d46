"""How many requests are taken in at once, of all clients and of each."""

import math
from collections import Counter

from magistral_mlx.server.errors import ApiError


class Admission:
    """Counts the answers that run or wait; what is too much is refused with 429.

    Only the event loop uses it, so nothing comes between a look and a count.
    """

    def __init__(self, *, running: int, queue: int, per_key: int | None) -> None:
        self._limit = running + queue
        self._running = running
        self._per_key = per_key
        self._active = 0
        self._by_client: Counter[str] = Counter()
        self._seconds = 5.0  # that an answer took lately

    @property
    def active(self) -> int:
        """Answers that run or wait."""
        return self._active

    def enter(self, client: str, answers: int) -> None:
        """Take a request of so many answers in. Raises ApiError (429)."""
        if self._per_key is not None and self._by_client[client] + answers > self._per_key:
            raise ApiError(
                429,
                f"This key has {self._by_client[client]} answers under way of {self._per_key} "
                "allowed at once: wait for one to end.",
                code="concurrency_limit",
                retry_after=self._wait(self._by_client[client]),
            )
        if self._active + answers > self._limit:
            raise ApiError(
                429,
                f"{self._active} answers run or wait, of {self._limit}: try again later.",
                code="queue_full",
                retry_after=self._wait(self._active),
            )
        self._active += answers
        self._by_client[client] += answers

    def leave(self, client: str, answers: int, *, seconds: float) -> None:
        """A request that was taken in has ended, after so many seconds."""
        self._active -= answers
        self._by_client[client] -= answers
        if not self._by_client[client]:
            del self._by_client[client]
        self._seconds += (seconds - self._seconds) / 8

    def _wait(self, ahead: int) -> int:
        """Seconds in which a place is likely to become free: a share of an answer's time."""
        return max(1, min(60, math.ceil(self._seconds / max(1, min(ahead, self._running)))))
