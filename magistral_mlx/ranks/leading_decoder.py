"""Rank 0's decoder and caches: each of their operations goes to the other ranks as a command."""

import itertools
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Self

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.kv.cache import KVCache, kv_precision
from magistral_mlx.kv.quantised import QuantisedKVCache
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.ranks.line import Line

DO = "do"


class CommandLog:
    """Commands in the order of their execution; `send` passes them on.

    The engine's thread writes; the last reference to a cache may be dropped on any thread.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = list(lines)
        self._commands: deque[list[object]] = deque()
        self._numbers = itertools.count()

    def write(self, *command: object) -> None:
        """Add a command: a word and numbers."""
        self._commands.append(list(command))

    def enrol(self, cache: "LeadingCache") -> None:
        """Give a cache a number, and write a command when it is gone."""
        cache.number = next(self._numbers)
        weakref.finalize(cache, self.write, "drop", cache.number).atexit = False

    def write_step(self, segments: Sequence[Segment]) -> None:
        """Write which caches a step advances, and send everything."""
        step: list[list[int]] = []
        for segment in segments:
            assert isinstance(segment.cache, LeadingCache)
            step.append([segment.cache.number, segment.length, segment.logits])
        self.write("step", step)
        self.send()

    def send(self) -> None:
        """Send the commands written since the last time. Raises OSError when a rank has gone."""
        commands = [self._commands.popleft() for _ in range(len(self._commands))]
        if commands:
            for line in self._lines:
                line.send([DO, commands])


class LeadingCache(KVCache):
    """Rank 0's part of a sequence's KV; its operations are written to a log."""

    number: int
    log: CommandLog

    def enter(self, log: CommandLog) -> Self:
        """Begin to write to this log; returns itself."""
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


class LeadingQuantisedCache(LeadingCache, QuantisedKVCache):
    """The same for quantised KV."""


class LeadingDecoder(Decoder):
    """A decoder whose steps the other ranks run, too: filled by `load_shard`."""

    def __init__(self, config: ModelConfig, log: CommandLog, group: mx.distributed.Group) -> None:
        """config: of the whole model."""
        super().__init__(config)
        self._log = log
        self._group = group

    def __call__(self, tokens: mx.array, segments: Sequence[Segment]) -> mx.array:
        """As Decoder; the token ids reach the other ranks on the device, before they are read."""
        self._log.write_step(segments)
        shared = mx.distributed.all_sum(tokens.astype(mx.int32), group=self._group)
        return super().__call__(shared, segments)

    def make_cache(self, *, bits: int | None = None, start: int = 0) -> KVCache:
        """As Decoder.make_cache, on all ranks."""
        config, precision = self.config, kv_precision(bits, start=start)
        if precision.bits is None:
            return LeadingCache(config.num_hidden_layers).enter(self._log)
        cache = LeadingQuantisedCache(config.num_hidden_layers, config.head_dim, precision)
        return cache.enter(self._log)

    def make_filled_cache(self, tokens: int) -> KVCache:
        """As Decoder.make_filled_cache, on all ranks."""
        cache = super().make_filled_cache(tokens)
        assert isinstance(cache, LeadingCache)
        self._log.write("fill", cache.number, tokens)
        return cache
