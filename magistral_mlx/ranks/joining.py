"""How a process takes its place among the ranks: rank 0 leads, the others follow to the end."""

import logging
import os
import queue
import signal
import socket
import sys
import threading
from typing import NoReturn

import mlx.core as mx

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.device import DeviceOptions
from magistral_mlx.errors import RequestError, UserError
from magistral_mlx.machine import machine_limit
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.ranks.command_log import DO
from magistral_mlx.ranks.follower import Follower
from magistral_mlx.ranks.launch import Launch
from magistral_mlx.ranks.layer_split import Split, check_layers
from magistral_mlx.ranks.leading_team import FAILED, LOAD, LeadingTeam, connect
from magistral_mlx.ranks.line import Line, Message
from magistral_mlx.ranks.roll import REFUSED, Presence, answer_roll, call_roll
from magistral_mlx.ranks.shard_config import shard_config
from magistral_mlx.ranks.shards import load_shard
from magistral_mlx.ranks.division import stages
from magistral_mlx.ranks.parts import StageDecoder, load_stage
from magistral_mlx.ranks.staged_team import StagedTeam
from magistral_mlx.ranks.watch import BYE, Watch
from magistral_mlx.spec import VERSION

logger = logging.getLogger(__name__)


def lead(launch: Launch, checkpoint: Checkpoint, *, split: Split = "heads") -> LeadingTeam:
    """As rank 0: wait for the others and connect with them.

    Raises RequestError when the model cannot be divided so, or a rank has another; EngineError when
    one does not come.
    """
    _check_divides(checkpoint, launch, split)  # before anybody is waited for
    roll = call_roll(launch, _presence(launch, checkpoint))
    return StagedTeam(launch, roll) if split == "layers" else LeadingTeam(launch, roll)


def follow(launch: Launch, checkpoint: Checkpoint, *, split: Split = "heads") -> NoReturn:
    """As another rank: do what rank 0 says until it closes its model, then end the process.

    Raises what rank 0 refuses as RequestError, EngineError when it does not come. When rank 0 is
    lost later, the process ends with exit code 1.
    """
    _check_divides(checkpoint, launch, split)
    line = answer_roll(launch, _presence(launch, checkpoint))
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    watch = Watch({0: line}, take=lambda _, message: messages.put(message), lost=_leave)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides when it ends
    try:
        _follow(connect(launch), checkpoint, messages)
    except UserError as error:
        _report(line, str(error))
        watch.cut()
        raise
    except Exception:
        logger.exception("Rank %d has failed.", launch.rank)
        _report(line, "it has failed; its log says why")
        os._exit(1)  # what waits inside MLX would never let it end
    sys.exit(0)


def _follow(
    group: mx.distributed.Group, checkpoint: Checkpoint, messages: "queue.SimpleQueue[Message]"
) -> None:
    follower: Follower | None = None
    while (message := messages.get())[0] != BYE:
        match message:
            case [str(kind), reason] if kind == REFUSED:
                raise RequestError(str(reason))
            case [str(kind), str(dtype), spare, wired, [*layers]] if kind == LOAD:
                _set_limits(spare, wired)
                decoder = _load(group, checkpoint, getattr(mx, dtype), _counts(layers))
                follower = Follower(decoder, group)
            case [str(kind), [*entries]] if kind == DO and follower is not None:
                follower.do(entries)
    mx.synchronize()


def _set_limits(spare: object, wired: object) -> None:
    DeviceOptions(
        spare_bytes=spare if isinstance(spare, int) else None,
        wired_bytes=wired if isinstance(wired, int) else None,
    ).set_limits()


def _counts(found: list[object]) -> list[int]:
    return [count for count in found if isinstance(count, int)]


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
        logger.error("Rank 0 has gone, too.")


def _leave(rank: int, why: str) -> None:
    logger.error("Rank %d is lost: %s.", rank, why)
    os._exit(1)
