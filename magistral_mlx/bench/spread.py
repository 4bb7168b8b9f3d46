"""Figures measured several times, in turn: medians, spreads and ratios."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


def in_turn(
    sides: Sequence[Callable[[], T]],
    *,
    rounds: int,
    done: Callable[[], None] = lambda: None,
    warm_up: bool = True,
) -> list[list[T]]:
    """Run all sides in turn, because the speed of a machine changes; returns results by side.

    The first round warms up and does not count. `done` is called after each run.
    """
    found: list[list[T]] = [[] for _ in sides]
    for number in range(rounds + warm_up):
        for side, results in zip(sides, found, strict=True):
            result = side()
            done()
            if number >= warm_up:
                results.append(result)
    return found


def seconds_of(run: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        """The spread of the values that are not None; None if there are none."""
        known = [value for value in values if value is not None]
        return cls(statistics.median(known), min(known), max(known)) if known else None

    @property
    def noise(self) -> float:
        """Half of the range, as a fraction of the median."""
        return (self.most - self.least) / 2 / self.median

    def text(self) -> str:
        """The median with three digits, and the noise in percent if the values differ."""
        digits = 0 if self.median >= 100 else 1 if self.median >= 10 else 2
        noise = f" ±{100 * self.noise:.0f}%" if self.most > self.least else ""
        return f"{self.median:,.{digits}f}{noise}"

    def json(self) -> dict[str, float]:
        """With four digits."""
        names = ("median", "least", "most")
        return {name: four_digits(getattr(self, name)) for name in names}


@dataclass(frozen=True, slots=True)
class Ratio:
    """Medians of both sides, and of their ratio, which is taken round by round."""

    ours: float
    theirs: float
    ratio: float
    least: float
    most: float

    @classmethod
    def of(
        cls, ours: Sequence[float], theirs: Sequence[float], *, inverse: bool = False
    ) -> "Ratio":
        """Ours over theirs; inverse: theirs over ours, for figures where less is better."""
        pairs = list(zip(ours, theirs, strict=True))
        ratios = [b / a if inverse else a / b for a, b in pairs]
        mine, other, ratio = map(statistics.median, (ours, theirs, ratios))
        return cls(mine, other, ratio, min(ratios), max(ratios))

    def text(self) -> str:
        """The ratio and its range."""
        return f"{self.ratio:.2f} ({self.least:.2f}–{self.most:.2f})"

    def cells(self, style: str) -> tuple[str, str, str]:
        """Ours, theirs and the ratio, for a table."""
        return format(self.ours, style), format(self.theirs, style), self.text()

    def json(self, *, theirs: str = "theirs") -> dict[str, float]:
        """With four digits; `theirs` is the key of the other side."""
        values = (self.ours, self.theirs, self.ratio, self.least, self.most)
        names = ("ours", theirs, "ratio", "ratio_least", "ratio_most")
        return dict(zip(names, map(four_digits, values), strict=True))


def four_digits(value: float) -> float:
    """Rounded to four significant digits, for JSON."""
    return float(f"{value:.4g}")
