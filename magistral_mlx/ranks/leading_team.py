"""Rank 0's team: it loads and closes with the other ranks, and ends when it loses one."""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.device import DeviceOptions, dtype_name
from magistral_mlx.machine import MemoryLimit
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.ranks.division import Stage, shard_config, stages
from magistral_mlx.ranks.launch import Launch
from magistral_mlx.ranks.leading_decoder import CommandLog, LeadingDecoder
from magistral_mlx.ranks.line import Message, Watch, send_all
from magistral_mlx.ranks.parts import LeadingStage, load_shard, load_stage
from magistral_mlx.ranks.roll import REFUSED, Presence, Roll
from magistral_mlx.ranks.team import Team

LEAVING_SECONDS = 3.0
"""Time for errors to reach their clients before the process ends."""

LOAD, FAILED = "load", "failed"

logger = logging.getLogger(__name__)


class LeadingTeam(Team):
    """Rank 0 of several. A lost rank takes its part of all KV with it, so the whole team ends."""

    def __init__(self, launch: Launch, roll: Roll) -> None:
        """Watch the others, who have joined, and connect to them."""
        self.size = launch.size
        self._roll = roll
        self._layers: tuple[int, ...] = ()  # of each rank, if they are divided
        self._log = CommandLog(roll.lines.values())
        self._lock = threading.Lock()  # guards the next two
        self._failure: str | None = None
        self._listeners: list[Callable[[str], None]] = []
        self._closed = False
        self._watch = Watch(roll.lines, take=self._take, lost=self._lose)
        self._group = connect(launch)

    @property
    def limit(self) -> MemoryLimit:
        """The smallest machine's limit; ranks on one machine share it."""
        return least_limit(self._roll.present)

    def part_of(self, config: ModelConfig) -> ModelConfig:
        """The shape of some heads and a part of every MLP."""
        return shard_config(config, self.size)

    @property
    def can_recover(self) -> bool:
        """Never: a step that fails on one rank leaves the others waiting for it."""
        return False

    def load(self, checkpoint: Checkpoint, device: DeviceOptions) -> Decoder:
        """Load rank 0's part while the others load theirs."""
        dtype = device.compute_dtype(checkpoint.config.dtype)
        limits = [device.spare_bytes, device.wired_bytes]
        send_all(self._roll.lines.values(), [LOAD, dtype_name(dtype), *limits, list(self._layers)])
        return self._own_part(checkpoint, dtype)

    def rest(self) -> None:
        """Free the memory that MLX keeps, on all ranks."""
        super().rest()
        self._log.write("rest")
        with suppress(OSError):  # the watch notices, too
            self._log.send()

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """Call a function when a rank is lost, or at once if one was lost before."""
        with self._lock:
            self._listeners.append(listener)
            failure = self._failure
        if failure is not None:
            listener(failure)

    def refuse(self, reason: str) -> None:
        """End the other ranks with the same error."""
        if not self._closed:
            send_all(self._roll.lines.values(), [REFUSED, reason])
            self.close()

    def close(self, *, failed: bool = False) -> None:
        """End the other ranks; if this one has failed, all end with exit code 1."""
        if self._closed or self._failure is not None:
            return
        if failed:
            self._lose(0, "its engine has died")
        else:
            self._closed = True
            mx.synchronize()  # the others still run the last step
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
        # Not a daemon: if the process ends meanwhile, this thread still sets the exit code.
        threading.Thread(
            target=self._leave, args=(self._failure,), name="magistral-leaving", daemon=False
        ).start()

    def _leave(self, failure: str) -> None:
        """A collective may never return, so do not wait for threads that are in one."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(failure)
        self._watch.cut()
        time.sleep(LEAVING_SECONDS)
        os._exit(1)


class StagedTeam(LeadingTeam):
    """As LeadingTeam, but each rank has some of the layers: `divide` sets how many."""

    @property
    def limits(self) -> tuple[MemoryLimit, ...]:
        """The machines' limits; ranks on one machine share it."""
        return limits_by_rank(self._roll.present)

    def divide(self, layers: Sequence[int]) -> None:
        """Set the number of layers of each rank, before anything is loaded."""
        self._layers = tuple(layers)

    def part_of(self, config: ModelConfig) -> ModelConfig:
        """The shape of rank 0's layers."""
        return self._stage.part_of(config)

    @property
    def _stage(self) -> Stage:
        return stages(self._layers)[0]

    def _own_part(self, checkpoint: Checkpoint, dtype: mx.Dtype) -> Decoder:
        decoder = LeadingStage(checkpoint.config, self._log, self._group)
        load_stage(decoder, checkpoint, self._stage, dtype=dtype)
        return decoder


def connect(launch: Launch) -> mx.distributed.Group:
    """Connect MLX's group of all ranks, which must be running."""
    return mx.distributed.init(strict=True, backend=launch.backend)


def least_limit(present: Mapping[int, Presence]) -> MemoryLimit:
    """The smallest of `limits_by_rank`."""
    return min(limits_by_rank(present), key=lambda limit: limit.bytes)


def limits_by_rank(present: Mapping[int, Presence]) -> tuple[MemoryLimit, ...]:
    """Each rank's limit: its machine's, divided by the number of ranks on it."""
    ranks = Counter(one.machine for one in present.values())
    limits = []
    for rank, one in sorted(present.items()):
        shared = ranks[one.machine]
        each = f"rank {rank}'s machine" + (f", divided by {shared}" if shared > 1 else "")
        limits.append(MemoryLimit(one.memory // shared, f"what {each} has for the model"))
    return tuple(limits)
