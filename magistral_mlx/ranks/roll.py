"""The ranks meet before MLX connects them, and check that all have the same model.

MLX waits fifteen seconds for a neighbour and then leaves the ring half connected. Here a rank may
be minutes late.
"""

import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from magistral_mlx.errors import EngineError, RequestError
from magistral_mlx.ranks.launch import Launch
from magistral_mlx.ranks.line import Line, send_all

LATE_SECONDS = 600.0
"""How long to wait for ranks."""

GREETING_SECONDS = 10.0
RETRY_SECONDS = 0.25

JOIN, REFUSED = "join", "refused"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Presence:
    """How a rank describes itself.

    machine: its host name, the same for ranks that share one. memory: the machine's limit in bytes.
    """

    rank: int
    machine: str
    memory: int
    version: str
    model: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Roll:
    """By rank: the descriptions of all, rank 0 included, and rank 0's lines to the others."""

    present: dict[int, Presence]
    lines: dict[int, Line]


def call_roll(launch: Launch, own: Presence, *, seconds: float = LATE_SECONDS) -> Roll:
    """As rank 0: wait for the others, and let them join if all have the same model.

    Raises RequestError, on all ranks, when one has another model or version, and EngineError when
    one does not come.
    """
    roll = Roll({own.rank: own}, {})
    with _listening(launch) as server:
        logger.info("Rank 0 waits for %d more ranks", launch.size - 1)
        deadline = time.monotonic() + seconds
        while len(roll.present) < launch.size:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                sock, _ = server.accept()
            except TimeoutError:
                missing = sorted(set(range(launch.size)) - set(roll.present))
                raise EngineError(
                    f"Rank {', '.join(map(str, missing))} did not come in {seconds:g} seconds."
                ) from None
            _greet(Line(sock), roll, launch)
    refusal = _refusal(own, list(roll.present.values()))
    send_all(roll.lines.values(), [JOIN] if refusal is None else [REFUSED, refusal])
    if refusal is not None:
        raise RequestError(refusal)
    return roll


def answer_roll(launch: Launch, own: Presence, *, seconds: float = LATE_SECONDS) -> Line:
    """As another rank: find rank 0 and join it.

    Raises RequestError when rank 0 refuses, EngineError when it does not come or goes again.
    """
    line = _find_rank_zero(launch, seconds)
    try:
        line.send(["present", *astuple(own)])
        answer = line.read()
    except OSError as error:
        raise EngineError(f"Rank 0 has gone: {error}.") from error
    if answer[0] != JOIN:
        raise RequestError(str(answer[-1]))
    return line


def _listening(launch: Launch) -> socket.socket:
    try:
        return socket.create_server((launch.host, launch.port), backlog=launch.size)
    except OSError as error:
        raise RequestError(
            f"Rank 0 cannot listen on {launch.host}:{launch.port} ({error.strerror}): give "
            "mlx.launch another --starting-port."
        ) from error


def _greet(line: Line, roll: Roll, launch: Launch) -> None:
    """Read a rank's description. A connection from anything else is closed and costs no time."""
    line.set_timeout(GREETING_SECONDS)
    try:
        kind, *fields = line.read()
        found = Presence(*fields) if kind == "present" else None  # type: ignore[arg-type]
    except (OSError, TypeError):
        found = None
    if found is None or found.rank in roll.present or found.rank not in range(launch.size):
        line.close()
        return
    roll.present[found.rank] = found
    roll.lines[found.rank] = line


def _refusal(own: Presence, present: Sequence[Presence]) -> str | None:
    for other in sorted(present, key=lambda one: one.rank):
        if other.version != own.version:
            return (
                f"Rank {other.rank} has magistral-mlx {other.version} and rank 0 {own.version}: "
                "install the same on all machines."
            )
        if other.fingerprint != own.fingerprint:
            return (
                f"Rank {other.rank} has another checkpoint ({other.model}) than rank 0 "
                f"({own.model}): copy rank 0's folder to it."
            )
    return None


def _find_rank_zero(launch: Launch, seconds: float) -> Line:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            sock = socket.create_connection((launch.host, launch.port), timeout=GREETING_SECONDS)
        except OSError:
            time.sleep(RETRY_SECONDS)
            continue
        if sock.getsockname() == sock.getpeername():  # a free local port can connect to itself
            sock.close()
            time.sleep(RETRY_SECONDS)
            continue
        sock.settimeout(None)
        return Line(sock)
    raise EngineError(f"Rank 0 did not come to {launch.host}:{launch.port} in {seconds:g} seconds.")
