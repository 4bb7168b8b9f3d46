"""What rank 0 does to its caches and decoder, written down for the others to do the same."""

import itertools
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Self

from magistral_mlx.kv.cache import KVCache
from magistral_mlx.kv.quantised import QuantisedKVCache
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.ranks.line import Line

DO = "do"


class CommandLog:
    """Entries in the order in which they happened; `send` passes them on.

    The engine's thread writes; the last reference to a cache may go on any thread.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = list(lines)
        self._entries: deque[list[object]] = deque()
        self._numbers = itertools.count()

    def write(self, *entry: object) -> None:
        """Add an entry: a word and numbers."""
        self._entries.append(list(entry))

    def enrol(self, cache: "LedCache") -> None:
        """Give a cache a number, and write down when it is gone."""
        cache.number = next(self._numbers)
        weakref.finalize(cache, self.write, "drop", cache.number).atexit = False

    def write_step(self, segments: Sequence[Segment]) -> None:
        """Write down which caches a step advances, and pass everything on."""
        shares: list[list[int]] = []
        for segment in segments:
            assert isinstance(segment.cache, LedCache)
            shares.append([segment.cache.number, segment.length, segment.logits])
        self.write("step", shares)
        self.send()

    def send(self) -> None:
        """Pass on what has not been. Raises OSError when a rank has gone."""
        entries = [self._entries.popleft() for _ in range(len(self._entries))]
        if entries:
            for line in self._lines:
                line.send([DO, entries])


class LedCache(KVCache):
    """Rank 0's part of a sequence's KV; what is done to it is written down."""

    number: int
    log: CommandLog

    def enter(self, log: CommandLog) -> Self:
        """Begin to write down; returns itself."""
        self.log = log
        log.enrol(self)
        log.write("new", self.number, self.precision.bits, self.precision.start)
        return self

    def reserve(self, length: int) -> None:
        """As KVCache.reserve."""
        super().reserve(length)
        self.log.write("reserve", self.number, length)

    def trim(self, length: int) -> None:
        """As KVCache.trim."""
        super().trim(length)
        self.log.write("trim", self.number, length)

    def copy(self, length: int) -> Self:
        """As KVCache.copy."""
        other = super().copy(length)
        self.log.enrol(other)
        self.log.write("copy", self.number, other.number, length)
        return other


class LedQuantisedCache(LedCache, QuantisedKVCache):
    """The same of quantised KV."""
