"""A process takes its place among the ranks: rank 0 leads, the others follow to the end."""

import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import mlx.core as mx

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.device import DeviceOptions, dtype_of
from magistral_mlx.errors import RequestError, UserError
from magistral_mlx.kv.cache import KVCache
from magistral_mlx.machine import machine_limit
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.ranks.division import Split, check_layers, shard_config, stages
from magistral_mlx.ranks.launch import Launch
from magistral_mlx.ranks.leading_decoder import DO
from magistral_mlx.ranks.leading_team import FAILED, LOAD, LeadingTeam, StagedTeam, connect
from magistral_mlx.ranks.line import BYE, Line, Message, Watch
from magistral_mlx.ranks.parts import StageDecoder, load_shard, load_stage
from magistral_mlx.ranks.roll import REFUSED, Presence, answer_roll, call_roll
from magistral_mlx.spec import VERSION

logger = logging.getLogger(__name__)


def lead(launch: Launch, checkpoint: Checkpoint, *, split: Split = "heads") -> LeadingTeam:
    """As rank 0: wait for the others and connect to them.

    Raises RequestError when the model cannot be divided like this or a rank has another model,
    EngineError when a rank does not come.
    """
    _check_divides(checkpoint, launch, split)  # before waiting for anyone
    roll = call_roll(launch, _presence(launch, checkpoint))
    return StagedTeam(launch, roll) if split == "layers" else LeadingTeam(launch, roll)


def follow(launch: Launch, checkpoint: Checkpoint, *, split: Split = "heads") -> NoReturn:
    """As another rank: run rank 0's commands until it closes its model, then end the process.

    Raises RequestError when rank 0 refuses, EngineError when it does not come. When rank 0 is lost
    later, the process ends with exit code 1.
    """
    _check_divides(checkpoint, launch, split)
    line = answer_roll(launch, _presence(launch, checkpoint))
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    watch = Watch({0: line}, take=lambda _, message: messages.put(message), lost=_leave)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides when to end
    try:
        _follow(connect(launch), checkpoint, messages)
    except UserError as error:
        _report(line, str(error))
        watch.cut()
        raise
    except Exception:
        logger.exception("Rank %d failed.", launch.rank)
        _report(line, "it has failed; its log says why")
        os._exit(1)  # a thread inside MLX may never return
    sys.exit(0)


def _follow(
    group: mx.distributed.Group, checkpoint: Checkpoint, messages: "queue.SimpleQueue[Message]"
) -> None:
    follower: Follower | None = None
    while (message := messages.get())[0] != BYE:
        match message:
            case [str(kind), reason] if kind == REFUSED:
                raise RequestError(str(reason))
            case [
                str(kind),
                str(dtype),
                int() | None as spare,
                int() | None as wired,
                [*layers],
            ] if kind == LOAD:
                DeviceOptions(spare_bytes=spare, wired_bytes=wired).set_limits()
                counts = [count for count in layers if isinstance(count, int)]
                follower = Follower(_load(group, checkpoint, dtype_of(dtype), counts), group)
            case [str(kind), [*commands]] if kind == DO and follower is not None:
                follower.do(commands)
    mx.synchronize()


class Follower:
    """Runs rank 0's commands. It has no tokenizer, draws nothing and decides nothing."""

    def __init__(self, decoder: Decoder, group: mx.distributed.Group) -> None:
        """decoder: filled by `load_shard` or `load_stage`."""
        self._decoder = decoder
        self._group = group
        self._caches: dict[int, KVCache] = {}

    def do(self, commands: Iterable[Any]) -> None:
        """Run commands that rank 0 logged."""
        for command in commands:
            self._do(command)

    def _do(self, command: Any) -> None:
        match command:
            case ["step", [*segments]]:
                self._step(segments)
            case ["new", int(number), int() | None as bits, int(start)]:
                self._caches[number] = self._decoder.make_cache(bits=bits, start=start)
            case ["fill", int(number), int(tokens)]:
                self._caches[number] = self._decoder.make_filled_cache(tokens)
            case ["reserve", int(number), int(length)]:
                self._caches[number].reserve(length)
            case ["trim", int(number), int(length)]:
                self._caches[number].trim(length)
                # While it is lazy, a trimmed storage keeps the whole one alive.
                mx.async_eval(self._caches[number].arrays)
            case ["copy", int(number), int(other), int(length)]:
                self._caches[other] = self._caches[number].copy(length)
            case ["drop", int(number)]:
                del self._caches[number]
            case ["rest"]:
                mx.clear_cache()
            case _:
                raise ValueError(f"Rank 0 sent an unknown command: {command!r}.")

    def _step(self, numbers: Sequence[Sequence[int]]) -> None:
        segments = [
            Segment(self._caches[number], length, logits) for number, length, logits in numbers
        ]
        nothing = mx.zeros((sum(segment.length for segment in segments),), mx.int32)
        tokens = mx.distributed.all_sum(nothing, group=self._group)
        hidden = self._decoder.hidden(tokens, segments)
        # Evaluate the same collectives as rank 0: without logits it skips the last.
        stored = [segment.cache.stored for segment in segments]
        mx.async_eval([hidden, *stored] if hidden.shape[0] else stored)


def _load(
    group: mx.distributed.Group, checkpoint: Checkpoint, dtype: mx.Dtype, layers: list[int]
) -> Decoder:
    """layers: of each rank; empty: every rank has a part of each."""
    if layers:
        stage = stages(layers)[group.rank()]
        staged = StageDecoder(checkpoint.config, stage, group)
        load_stage(staged, checkpoint, stage, dtype=dtype)
        return staged
    decoder = Decoder(checkpoint.config)
    load_shard(decoder, checkpoint, group, dtype=dtype)
    return decoder


def _check_divides(checkpoint: Checkpoint, launch: Launch, split: Split) -> None:
    if split == "layers":
        check_layers(checkpoint.config, launch.size)
    else:
        shard_config(checkpoint.config, launch.size)


def _presence(launch: Launch, checkpoint: Checkpoint) -> Presence:
    return Presence(
        rank=launch.rank,
        machine=socket.gethostname(),
        memory=machine_limit().bytes,
        version=VERSION,
        model=checkpoint.folder.name,
        fingerprint=checkpoint.fingerprint,
    )


def _report(line: Line, reason: str) -> None:
    try:
        line.send([FAILED, reason])
    except OSError:
        logger.error("Rank 0 has gone as well.")


def _leave(rank: int, why: str) -> None:
    logger.error("Rank %d is lost: %s.", rank, why)
    os._exit(1)
