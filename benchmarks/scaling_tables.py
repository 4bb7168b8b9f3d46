"""What scaling.py finds, and how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from scaling_local import Checked


@dataclass(frozen=True, slots=True)
class Row:
    """One Mac, link and number of ranks. window: 0 where the model does not fit."""

    mac: str
    link: str
    ranks: int
    window: int
    weights: int
    one_stream: float
    eight_streams: float
    first_token: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """Macs as replicas of so many ranks, each with eight streams. sent: bytes a second in all."""

    macs: int
    ranks: int
    tokens_per_second: float
    streams: int
    events_per_second: float
    sent: float


def paper_table(rows: Sequence[Row]) -> Table:
    """The Macs."""
    table = _table(
        "Ranks", "Link", "Mac", "Weights, GB", "Window", "1 stream", "8 streams", "First"
    )
    for one in rows:
        table.add_row(
            str(one.ranks),
            one.link,
            one.mac,
            f"{one.weights / 1e9:.1f}",
            f"{one.window:,}" if one.window else "does not fit",
            *(
                (f"{one.one_stream:.1f}", f"{one.eight_streams:.0f}", f"{one.first_token:.0f} s")
                if one.window
                else ("", "", "")
            ),
        )
    return table


def fleet_table(fleets: Sequence[Fleet]) -> Table:
    """The fleets."""
    table = _table("Macs", "Ranks each", "Streams", "Tokens/s", "Through the proxy, MB/s")
    for one in fleets:
        table.add_row(
            f"{one.macs:,}",
            str(one.ranks),
            f"{one.streams:,}",
            f"{one.tokens_per_second:,.0f}",
            f"{one.sent / 1e6:.1f}",
        )
    return table


def local_table(checked: Sequence[Checked]) -> Table:
    """What was predicted for this machine, and what was measured."""
    table = _table(
        "Ranks", "Tokens", "Part, ms", "All-reduces, ms", "Sum, ms", "Step, ms", "Off by"
    )
    for one in checked:
        table.add_row(
            str(one.ranks),
            str(one.tokens),
            f"{1e3 * one.part:.1f}",
            f"{1e3 * one.all_reduces:.1f}",
            f"{1e3 * one.predicted:.1f}",
            f"{1e3 * one.measured:.1f}",
            f"{one.measured / one.predicted - 1:+.0%}",
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1))
    for column in columns:
        table.add_column(column, justify="right")
    return table
