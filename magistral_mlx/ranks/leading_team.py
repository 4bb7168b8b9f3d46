"""Rank 0's team: it loads and closes with the other ranks, and ends when it loses one."""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.device import DeviceOptions, dtype_name
from magistral_mlx.machine import MemoryLimit
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.ranks.command_log import CommandLog
from magistral_mlx.ranks.launch import Launch
from magistral_mlx.ranks.leading_decoder import LeadingDecoder
from magistral_mlx.ranks.line import Message
from magistral_mlx.ranks.roll import REFUSED, Presence, Roll, tell
from magistral_mlx.ranks.shard_config import shard_config
from magistral_mlx.ranks.shards import load_shard
from magistral_mlx.ranks.team import Team
from magistral_mlx.ranks.watch import Watch

LEAVING_SECONDS = 3.0
"""What errors have to reach their clients before the process ends."""

LOAD, FAILED = "load", "failed"

logger = logging.getLogger(__name__)


class LeadingTeam(Team):
    """Rank 0 of several. A rank that is lost takes its KV along, so the whole team ends."""

    def __init__(self, launch: Launch, roll: Roll) -> None:
        """Begin to watch the others, who have joined, and connect with them."""
        self.size = launch.size
        self._roll = roll
        self._layers: tuple[int, ...] = ()  # of each rank, where they are divided
        self._log = CommandLog(roll.lines.values())
        self._lock = threading.Lock()  # of the two that follow
        self._failure: str | None = None
        self._listeners: list[Callable[[str], None]] = []
        self._closed = False
        self._watch = Watch(roll.lines, take=self._take, lost=self._lose)
        self._group = connect(launch)

    @property
    def limit(self) -> MemoryLimit:
        """The smallest machine's; ranks on one machine share it."""
        return least_limit(self._roll.present)

    def part_of(self, config: ModelConfig) -> ModelConfig:
        """Some of the heads, and a part of every MLP."""
        return shard_config(config, self.size)

    @property
    def can_recover(self) -> bool:
        """A step that failed on one rank has left the others waiting for it."""
        return False

    def load(self, checkpoint: Checkpoint, device: DeviceOptions) -> Decoder:
        """Its own part, while the others load theirs."""
        dtype = device.compute_dtype(checkpoint.config.dtype)
        limits = [device.spare_bytes, device.wired_bytes]
        tell(self._roll.lines.values(), [LOAD, dtype_name(dtype), *limits, list(self._layers)])
        return self._own_part(checkpoint, dtype)

    def rest(self) -> None:
        """All ranks give back what MLX keeps."""
        super().rest()
        self._log.write("rest")
        with suppress(OSError):  # the watch is on to it
            self._log.send()

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """Have a function told when a rank is lost, or has been."""
        with self._lock:
            self._listeners.append(listener)
            failure = self._failure
        if failure is not None:
            listener(failure)

    def refuse(self, reason: str) -> None:
        """The other ranks end with the same error."""
        if not self._closed:
            tell(self._roll.lines.values(), [REFUSED, reason])
            self.close()

    def close(self, *, failed: bool = False) -> None:
        """Let the others end; when this rank has failed, they end in failure, and so does it."""
        if self._closed or self._failure is not None:
            return
        if failed:
            self._lose(0, "its engine has died")
        else:
            self._closed = True
            mx.synchronize()  # the others are in the step that nobody reads any more
            self._watch.close()

    def _own_part(self, checkpoint: Checkpoint, dtype: mx.Dtype) -> Decoder:
        decoder = LeadingDecoder(checkpoint.config, self._log, self._group)
        load_shard(decoder, checkpoint, self._group, dtype=dtype)
        return decoder

    def _take(self, rank: int, message: Message) -> None:
        if message[0] == FAILED:
            self._lose(rank, str(message[-1]))

    def _lose(self, rank: int, why: str) -> None:
        with self._lock:
            if self._failure is not None or self._closed:
                return
            self._failure = f"Rank {rank} of {self.size} is lost: {why}."
        logger.error("%s", self._failure)
        # Not a daemon: whatever ends the process in the meantime, this gives the exit code.
        threading.Thread(
            target=self._leave, args=(self._failure,), name="magistral-leaving", daemon=False
        ).start()

    def _leave(self, failure: str) -> None:
        """A collective may never return, so nobody can wait for the threads that are in one."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(failure)
        self._watch.cut()
        time.sleep(LEAVING_SECONDS)
        os._exit(1)


def connect(launch: Launch) -> mx.distributed.Group:
    """Have MLX connect the ranks, all of which are there."""
    return mx.distributed.init(strict=True, backend=launch.backend)


def least_limit(present: Mapping[int, Presence]) -> MemoryLimit:
    """What each rank may plan with: the machines' own limits, divided where ranks share one."""
    return min(limits_by_rank(present), key=lambda limit: limit.bytes)


def limits_by_rank(present: Mapping[int, Presence]) -> tuple[MemoryLimit, ...]:
    """The same of each rank."""
    ranks = Counter(one.machine for one in present.values())
    limits = []
    for rank, one in sorted(present.items()):
        shared = ranks[one.machine]
        each = f"rank {rank}'s machine" + (f", divided by {shared}" if shared > 1 else "")
        limits.append(MemoryLimit(one.memory // shared, f"what {each} has for the model"))
    return tuple(limits)
