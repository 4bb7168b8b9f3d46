"""The figures that must not get worse, as they are stored, and what is wrong with measured ones."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.bench.host_time import HostTime
from magistral_mlx.errors import UserError

MORE_IS_BETTER = frozenset({"tokens_a_step"})


@dataclass(frozen=True, slots=True)
class Bounds:
    """counts: exact. host_time: mlx-lm's processor time over ours, by streams."""

    counts: Mapping[str, float]
    host_time: Mapping[int, float]

    @classmethod
    def read(cls, file: Path) -> "Bounds":
        """Raises UserError when the file is not there or not whole."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            ratios = {int(streams): ratio for streams, ratio in content["host_time"].items()}
            return cls(counts=content["counts"], host_time=ratios)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{file} holds no bounds ({error!r}): write it with --renew."
            ) from error

    def write(self, file: Path) -> None:
        """As `read` reads it."""
        content = {
            "counts": dict(self.counts),
            "host_time": {str(streams): ratio for streams, ratio in self.host_time.items()},
        }
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def wrong_counts(self, counts: Mapping[str, float]) -> list[str]:
        """A line for each count that differs: worse ones must be mended, better ones stored."""
        names = sorted(self.counts.keys() | counts.keys())
        return [
            _line(name, self.counts.get(name), counts.get(name))
            for name in names
            if self.counts.get(name) != counts.get(name)
        ]

    def slow_host(self, measured: Mapping[int, HostTime]) -> list[str]:
        """A line for each ratio that is below its bound by more than its noise."""
        return [
            f"host time, {streams} streams: mlx-lm's is {time.ratio:.2f} times ours, noise "
            f"{time.noise:.2f}; the bound is {self.host_time[streams]:.2f}"
            for streams, time in measured.items()
            if time.ratio + time.noise < self.host_time[streams]
        ]


def _line(name: str, bound: float | None, found: float | None) -> str:
    if bound is None or found is None:
        return f"{name}: {found} measured, {bound} stored: renew the bounds"
    better = (found > bound) == (name in MORE_IS_BETTER)
    what = "better: renew the bounds" if better else "worse"
    return f"{name}: {found:,} instead of {bound:,}, {what}"
