"""A figure that was measured several times."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        """Of those that there are."""
        known = [value for value in values if value is not None]
        return cls(statistics.median(known), min(known), max(known)) if known else None

    @property
    def noise(self) -> float:
        """Half of the range, as a part of the median."""
        return (self.most - self.least) / 2 / self.median

    def text(self) -> str:
        """The median with three digits, and its noise in percent where there is any."""
        digits = 0 if self.median >= 100 else 1 if self.median >= 10 else 2
        noise = f" ±{100 * self.noise:.0f}%" if self.most > self.least else ""
        return f"{self.median:,.{digits}f}{noise}"

    def json(self) -> dict[str, float]:
        """With four digits."""
        names = ("median", "least", "most")
        return {name: float(f"{getattr(self, name):.4g}") for name in names}
