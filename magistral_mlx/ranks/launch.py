"""How mlx.launch started this process: its rank, the number of ranks, and rank 0's address."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magistral_mlx.errors import RequestError


@dataclass(frozen=True, slots=True)
class Launch:
    """One rank's place.

    backend: of mlx.distributed.
    host, port: where rank 0 listens for the others; not a port that MLX itself uses.
    """

    rank: int
    size: int
    backend: str
    host: str
    port: int


def find_launch(environment: Mapping[str, str]) -> Launch | None:
    """What mlx.launch wrote into the environment; None for a single process.

    Raises RequestError for a back end other than ring and JACCL.
    """
    if "MLX_RANK" not in environment:
        return None
    rank = int(environment["MLX_RANK"])
    if "MLX_JACCL_COORDINATOR" in environment and "MLX_IBV_DEVICES" in environment:
        host, port = _address(environment["MLX_JACCL_COORDINATOR"])
        size = len(_read(environment["MLX_IBV_DEVICES"]))
        return Launch(rank, size, "jaccl", host, port + 1)
    if "MLX_HOSTFILE" not in environment:
        raise RequestError(
            "The back end of mlx.launch cannot divide the model: use --backend ring or "
            "--backend jaccl."
        )
    hosts = _read(environment["MLX_HOSTFILE"])
    if len(hosts) < 2:
        return None
    addresses = [_address(str(address)) for host in hosts for address in host]
    # One above all ports of the ring, whatever --starting-port was.
    return Launch(rank, len(hosts), "ring", addresses[0][0], max(p for _, p in addresses) + 1)


def is_follower(environment: Mapping[str, str]) -> bool:
    """Whether this is a rank other than 0, which takes no requests and computes its part."""
    launch = find_launch(environment)
    return launch is not None and launch.rank > 0


def _read(path: str) -> list[Any]:
    text = Path(path).read_text(encoding="utf-8").strip()
    found = json.loads(text) if text else []
    return found if isinstance(found, list) else []


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
