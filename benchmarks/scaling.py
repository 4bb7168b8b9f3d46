"""What ranks and replicas give, on paper.

    python benchmarks/scaling.py

Magistral Small at 4 bits on Macs, from the bytes that a step reads, the arithmetic of a prompt, and
two all-reduces of (T, 5120) per layer over a link.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

from rich.console import Console

from magistral_mlx.bench.bandwidth import step_bytes_read
from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.report_parts import json_line, records_table
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.weight_shapes import plain_shapes
from magistral_mlx.machine import GIB, mac_limit
from magistral_mlx.memory.byte_counts import weight_bytes
from magistral_mlx.memory.plan import MemoryPlanError, magistral_small, plan
from magistral_mlx.ranks.division import shard_config

CONFIG = magistral_small()
PROMPT = 4_000
"""Tokens of the prompt before the first token, and of the context that is decoded in."""

CHUNK = 512
READ_SHARE = 0.8
"""Of a Mac's bandwidth that decoding reaches: 76 to 83 % in published MLX runs of 24B models."""

EVENT_BYTES = 300
"""Of one token on its way to a client of the server."""

PAPER = {
    "Mac": "{mac}",
    "Link": "{link}",
    "Ranks": "{ranks}",
    "Window": "{window:,}",
    "Weight bytes": "{weights:,}",
    "1 stream": "{one_stream:.1f}",
    "8 streams": "{eight_streams:.0f}",
    "First, s": "{first_token:.0f}",
}
FLEET = {
    "Macs": "{macs:,}",
    "Ranks each": "{ranks}",
    "Streams": "{streams:,}",
    "Tokens/s": "{tokens_per_second:,.0f}",
    "Bytes/s through the proxy": "{sent:,.0f}",
}
"""Columns of the tables."""


@dataclass(frozen=True, slots=True)
class Mac:
    """memory: GB; bandwidth: bytes per second; arithmetic: operations per second in a long prompt.

    Bandwidths are Apple's. The arithmetic is an assumption, 60 % of the GPU's peak in 16 bits, and
    the time to first token is only as good as that. thunderbolt: JACCL needs 5.
    """

    name: str
    memory: int
    bandwidth: float
    arithmetic: float
    thunderbolt: int


@dataclass(frozen=True, slots=True)
class Link:
    """latency: seconds of one message, one way, with software; bandwidth: bytes per second."""

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


@dataclass(frozen=True, slots=True)
class Ranks:
    """Macs of one kind that share the model. link: None for one Mac alone."""

    mac: Mac
    count: int = 1
    link: Link | None = None

    def window(self) -> int:
        """Tokens; 0 if the model does not fit."""
        try:
            return plan(CONFIG, mac_limit(self.mac.memory * GIB), ranks=self.count).window
        except MemoryPlanError:
            return 0

    def decode_rate(self, streams: int) -> float:
        """Tokens per second of all streams."""
        return streams / self._step_seconds(tokens=streams, streams=streams)

    def first_token_seconds(self) -> float:
        """A prompt in chunks, and no other request."""
        chunks = [min(CHUNK, PROMPT - start) for start in range(0, PROMPT, CHUNK)]
        return sum(self._step_seconds(tokens=chunk, streams=0) for chunk in chunks)

    def _step_seconds(self, *, tokens: int, streams: int) -> float:
        """Reading and arithmetic overlap, so the longer of the two counts; messages are added."""
        part = shard_config(CONFIG, self.count)
        read = step_bytes_read(part, "bfloat16", Case(PROMPT, streams, kv_bits=16, tokens=0))
        operations = 2 * tokens * layer_parameters(part)
        seconds = max(read / (READ_SHARE * self.mac.bandwidth), operations / self.mac.arithmetic)
        return seconds + self._messages_seconds(tokens)

    def _messages_seconds(self, tokens: int) -> float:
        """Two all-reduces of (T, 5120) per layer, in 16 bits, and one of the token ids."""
        hidden = self._all_reduce_seconds(tokens * CONFIG.hidden_size * 2)
        return 2 * CONFIG.num_hidden_layers * hidden + self._all_reduce_seconds(tokens * 4)

    def _all_reduce_seconds(self, size: float) -> float:
        """A ring sends 2 (N - 1) messages one after the other, each of 1/N of the bytes."""
        if self.link is None:
            return 0.0
        message = self.link.latency + size / self.count / self.link.bandwidth
        return 2 * (self.count - 1) * message


def layer_parameters(config: ModelConfig) -> int:
    """Parameters of the layers' matrices: every token is multiplied with all of them."""
    shapes = plain_shapes(config).items()
    return sum(prod(shape) for name, shape in shapes if ".layers." in name and len(shape) > 1)


def on_paper() -> list[dict[str, Any]]:
    """Every Mac alone, then 2 and 4 of them with each link. window: 0 if the model does not fit."""
    found = [Ranks(mac) for mac in MACS]
    found += [
        Ranks(mac, count, link)
        for count in (2, 4)
        for link in LINKS
        for mac in MACS
        if mac.thunderbolt >= link.thunderbolt
    ]
    return [
        {
            "mac": ranks.mac.name,
            "link": ranks.link.name if ranks.link else "",
            "ranks": ranks.count,
            "window": ranks.window(),
            "weights": weight_bytes(shard_config(CONFIG, ranks.count), "bfloat16"),
            "one_stream": ranks.decode_rate(1),
            "eight_streams": ranks.decode_rate(8),
            "first_token": ranks.first_token_seconds(),
        }
        for ranks in found
    ]


def fleets(mac: Mac, link: Link) -> list[dict[str, Any]]:
    """2 to 1,000 Macs: replicas share nothing, so everything grows with their number.

    A replica has eight streams. sent: bytes per second in all.
    """
    found = []
    for macs in (2, 10, 100, 1_000):
        for ranks in (Ranks(mac), Ranks(mac, 2, link)):
            replicas = macs // ranks.count
            rate = replicas * ranks.decode_rate(8)
            sizes = {"macs": macs, "ranks": ranks.count, "streams": 8 * replicas}
            found.append(sizes | {"tokens_per_second": rate, "sent": EVENT_BYTES * rate})
    return found


def main() -> None:
    """Print the tables, and end with one line of JSON."""
    paper, fleet = on_paper(), fleets(MACS[2], LINKS[1])
    console = Console(width=120)
    console.print(records_table("Ranks, on paper", PAPER, paper, left=("Mac", "Link")))
    console.print(records_table("Replicas, on paper", FLEET, fleet))
    print(json_line("scaling", {"paper": paper, "fleet": fleet}))


if __name__ == "__main__":
    main()
