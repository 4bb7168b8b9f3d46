"""How many answers are taken in at once, from all clients and from each."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from magistral_mlx.server.answering.errors import ApiError


class Admission:
    """Counts the answers that run or wait, and refuses more than the limits with 429.

    Only the event loop uses it, so nothing comes between a look and a count.
    """

    def __init__(self, *, running: int, queue: int, per_key: int | None) -> None:
        self._limit = running + queue
        self._running = running
        self._per_key = per_key
        self.active = 0  # answers that run or wait
        self._by_client: Counter[str] = Counter()
        self._seconds = 5.0  # recent time of an answer

    @contextmanager
    def places(self, client: str, answers: int) -> Iterator[None]:
        """Places for a request's answers while the context lasts. Raises ApiError (429)."""
        self._check(client, answers)
        began = time.perf_counter()
        self.active += answers
        self._by_client[client] += answers
        try:
            yield
        finally:
            self.active -= answers
            self._by_client[client] -= answers
            if not self._by_client[client]:
                del self._by_client[client]
            self._seconds += (time.perf_counter() - began - self._seconds) / 8

    def _check(self, client: str, answers: int) -> None:
        active = self._by_client[client]
        if self._per_key is not None and active + answers > self._per_key:
            raise ApiError(
                429,
                f"This key has {active} answers running or waiting; the limit is {self._per_key}: "
                "wait for one to end.",
                code="concurrency_limit",
                retry_after=self._wait(active),
            )
        if self.active + answers > self._limit:
            raise ApiError(
                429,
                f"{self.active} answers run or wait; the limit is {self._limit}: try again later.",
                code="queue_full",
                retry_after=self._wait(self.active),
            )

    def _wait(self, ahead: int) -> int:
        """Seconds until a place is likely to be free: a share of an answer's time."""
        return max(1, min(60, math.ceil(self._seconds / max(1, min(ahead, self._running)))))
