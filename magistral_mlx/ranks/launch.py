"""How mlx.launch has started this process: which rank of how many, and where rank 0 is."""

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
    host, port: where rank 0 is found by the others, beside what MLX itself listens on.
    """

    rank: int
    size: int
    backend: str
    host: str
    port: int


def find_launch(environment: Mapping[str, str]) -> Launch | None:
    """What mlx.launch has written into the environment; None for a process on its own.

    Raises RequestError for another back end than ring and JACCL.
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
            "mlx.launch was told to use a back end that the model cannot be divided with: use "
            "--backend ring or --backend jaccl."
        )
    hosts = _read(environment["MLX_HOSTFILE"])
    if len(hosts) < 2:
        return None
    addresses = [_address(str(address)) for host in hosts for address in host]
    # A port that no rank's own connection has, whatever --starting-port was.
    return Launch(rank, len(hosts), "ring", addresses[0][0], max(p for _, p in addresses) + 1)


def is_follower(environment: Mapping[str, str]) -> bool:
    """Whether another rank owns the requests, and this one only computes its part."""
    launch = find_launch(environment)
    return launch is not None and launch.rank > 0


def _read(path: str) -> list[Any]:
    text = Path(path).read_text(encoding="utf-8").strip()
    found = json.loads(text) if text else []
    return found if isinstance(found, list) else []


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
