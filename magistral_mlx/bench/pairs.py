"""Two things measured in turn, because the machine's speed changes while it is measured."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Mine = TypeVar("Mine")
Other = TypeVar("Other")


@dataclass(frozen=True, slots=True)
class Turns(Generic[Mine, Other]):
    """What each side gave, round by round."""

    ours: list[Mine]
    theirs: list[Other]


def in_turn(
    ours: Callable[[], Mine],
    theirs: Callable[[], Other],
    *,
    rounds: int,
    done: Callable[[], None],
    warm_up: bool = True,
) -> Turns[Mine, Other]:
    """Run both by turns. The first round warms up and does not count; `done` follows each run."""
    turns: Turns[Mine, Other] = Turns([], [])
    for number in range(rounds + warm_up):
        mine = ours()
        done()
        other = theirs()
        done()
        if number >= warm_up:
            turns.ours.append(mine)
            turns.theirs.append(other)
    return turns


@dataclass(frozen=True, slots=True)
class Ratio:
    """Medians of both sides; the quotient's median, least and most, taken round by round."""

    ours: float
    theirs: float
    ratio: float
    least: float
    most: float

    def json(self, *, theirs: str = "theirs") -> dict[str, float]:
        """As numbers of four digits; `theirs` names the other side."""
        pairs = zip(
            ("ours", theirs, "ratio", "ratio_least", "ratio_most"),
            (self.ours, self.theirs, self.ratio, self.least, self.most),
            strict=True,
        )
        return {name: float(f"{value:.4g}") for name, value in pairs}

    def cells(self, style: str = ",.1f") -> list[str]:
        """Ours, theirs and the quotient with its spread, for a table."""
        spread = f"{self.ratio:.2f} ({self.least:.2f} to {self.most:.2f})"
        return [format(self.ours, style), format(self.theirs, style), spread]


def ratio_of(ours: Sequence[float], theirs: Sequence[float], *, inverse: bool = False) -> Ratio:
    """The quotient ours / theirs; inverse: theirs / ours, where less is better."""
    pairs = list(zip(ours, theirs, strict=True))
    quotients = [b / a if inverse else a / b for a, b in pairs]
    return Ratio(
        statistics.median(ours),
        statistics.median(theirs),
        statistics.median(quotients),
        min(quotients),
        max(quotients),
    )
