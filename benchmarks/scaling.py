"""What ranks and replicas give, on paper and on this machine.

    python benchmarks/scaling.py [--local] [--json]

On paper: Magistral Small at 4 bits on Macs, from the bytes that a step reads, the arithmetic of a
prompt, and two all-reduces of (T, 5120) a layer over a link. --local checks the same sum here: it
times one rank's part by itself and the all-reduces by themselves, for 2 and 3 processes of this
machine, adds them up, and compares that with steps of so many ranks. Nothing else should run then.
"""

import argparse
import json
from dataclasses import asdict, dataclass

from rich.console import Console
from scaling_local import Checked, measure
from scaling_tables import Fleet, Row, fleet_table, local_table, paper_table

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.machine import GIB, mac_limit
from magistral_mlx.memory.byte_counts import kv_bytes_per_token, weight_bytes
from magistral_mlx.memory.plan import MemoryPlanError, magistral_small, plan
from magistral_mlx.ranks.shard_config import shard_config

CONFIG = magistral_small()
PROMPT = 4_000
"""Tokens of the prompt whose first token is waited for, and of the context that is decoded in."""

CHUNK = 512
HEAD_BYTES = 131_072 * 5_120 * 4.5 / 8
READ_SHARE = 0.8
"""Of a Mac's bandwidth that decoding reaches: 76 to 83 % in published MLX runs of 24B models."""

EVENT_BYTES = 300
"""Of a token on its way to a client of the server."""


@dataclass(frozen=True, slots=True)
class Mac:
    """memory: GB; bandwidth: bytes a second; arithmetic: operations a second in a long prompt.

    Bandwidths are Apple's. The arithmetic is an assumption, 60 % of the GPU's peak in 16 bits: time
    to first token stands and falls with it. thunderbolt: JACCL needs 5.
    """

    name: str
    memory: int
    bandwidth: float
    arithmetic: float
    thunderbolt: int


@dataclass(frozen=True, slots=True)
class Link:
    """latency: seconds of one message one way, software included; bandwidth: bytes a second."""

    name: str
    latency: float
    bandwidth: float
    thunderbolt: int = 0


MACS = (
    Mac("M4, 16 GB", 16, 120e9, 5e12, 4),
    Mac("M4, 24 GB", 24, 120e9, 5e12, 4),
    Mac("M4 Pro, 48 GB", 48, 273e9, 10e12, 5),
    Mac("M4 Max, 64 GB", 64, 546e9, 20e12, 5),
    Mac("M3 Ultra, 96 GB", 96, 819e9, 33e12, 5),
)
LINKS = (
    # Round trips of 0.25 to 0.38 ms are reported for TCP over Thunderbolt; half of that one way.
    Link("10 GbE, ring", 150e-6, 1.1e9),
    Link("Thunderbolt, ring", 150e-6, 2.5e9),
    # JACCL: 3 to 50 us and 3.5 to 7.6 GB/s are reported.
    Link("Thunderbolt 5, JACCL", 15e-6, 6e9, thunderbolt=5),
)


def all_reduce_seconds(bytes_: float, ranks: int, link: Link) -> float:
    """A ring sends 2 (N - 1) messages one after the other, each of an Nth of the bytes."""
    return 2 * (ranks - 1) * (link.latency + bytes_ / ranks / link.bandwidth)


def step_seconds(
    mac: Mac, ranks: int, link: Link | None, *, tokens: int, rows: int, context: int
) -> float:
    """A step of so many tokens, of which `rows` draw, each sequence with so much context.

    Reading and arithmetic overlap, so the longer of the two counts; messages come on top.
    """
    part = shard_config(CONFIG, ranks)
    read = weight_bytes(part, "bfloat16") - HEAD_BYTES  # the embedding is not read, the head is
    read += rows * context * kv_bytes_per_token(part, "bfloat16", bits=16)
    operations = 2 * tokens * parameters(part)
    seconds = max(read / (READ_SHARE * mac.bandwidth), operations / mac.arithmetic)
    if link is None or ranks == 1:
        return seconds
    return seconds + messages_seconds(ranks, link, tokens=tokens)


def messages_seconds(ranks: int, link: Link, *, tokens: int) -> float:
    """Two all-reduces of (T, 5120) a layer, in 16 bits, and one of the token ids."""
    hidden = all_reduce_seconds(tokens * CONFIG.hidden_size * 2, ranks, link)
    return 2 * CONFIG.num_hidden_layers * hidden + all_reduce_seconds(tokens * 4, ranks, link)


def first_token_seconds(mac: Mac, ranks: int, link: Link | None) -> float:
    """A prompt in chunks, with nobody else there."""
    chunks = [min(CHUNK, PROMPT - start) for start in range(0, PROMPT, CHUNK)]
    return sum(step_seconds(mac, ranks, link, tokens=n, rows=0, context=0) for n in chunks)


def parameters(config: ModelConfig) -> float:
    """Of the layers, that every token is multiplied with."""
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    attention = config.hidden_size * (2 * queries + 2 * keys)
    return config.num_hidden_layers * (
        attention + 3 * config.hidden_size * config.intermediate_size
    )


def rows_on_paper() -> list[Row]:
    """Every Mac alone, then 2 and 4 of them with each link that they have."""
    found = [row(mac, 1, None) for mac in MACS]
    return found + [
        row(mac, ranks, link)
        for ranks in (2, 4)
        for link in LINKS
        for mac in MACS
        if mac.thunderbolt >= link.thunderbolt
    ]


def row(mac: Mac, ranks: int, link: Link | None) -> Row:
    """Tokens a second of one stream and of eight, and seconds to the first token."""

    def per_second(streams: int) -> float:
        seconds = step_seconds(mac, ranks, link, tokens=streams, rows=streams, context=PROMPT)
        return streams / seconds

    try:
        window = plan(CONFIG, mac_limit(mac.memory * GIB), ranks=ranks).window
    except MemoryPlanError:
        window = 0
    return Row(
        mac.name,
        link.name if link else "",
        ranks,
        window,
        weight_bytes(shard_config(CONFIG, ranks), "bfloat16"),
        per_second(1),
        per_second(8),
        first_token_seconds(mac, ranks, link),
    )


def fleets(mac: Mac, link: Link) -> list[Fleet]:
    """What 2 to 1,000 Macs give: replicas share nothing, so all of it grows with their number."""
    found = []
    for macs in (2, 10, 100, 1_000):
        for ranks in (1, 2):
            replicas = macs // ranks
            speed = replicas * row(mac, ranks, link if ranks > 1 else None).eight_streams
            found.append(Fleet(macs, ranks, speed, 8 * replicas, speed, EVENT_BYTES * speed))
    return found


def main() -> None:
    """Print the tables, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--local", action="store_true", help="check the sum on this machine")
    parser.add_argument("--quick", action="store_true", help="--local with fewer steps")
    args = parser.parse_args()
    console = Console(width=120)
    paper = rows_on_paper()
    fleet = fleets(MACS[2], LINKS[1])
    console.print(paper_table(paper), fleet_table(fleet))
    checked: list[Checked] = []
    if args.local:
        checked = list(measure(steps=50 if args.quick else 400))
        console.print(local_table(checked))
    print(
        json.dumps(
            {
                "paper": [asdict(one) for one in paper],
                "fleet": [asdict(one) for one in fleet],
                "local": [asdict(one) for one in checked],
            }
        )
    )


if __name__ == "__main__":
    main()
