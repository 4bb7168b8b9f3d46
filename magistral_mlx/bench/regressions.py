"""Counts and host time against stored figures: what `make bench` checks."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.table import Table

from magistral_mlx.bench.counts import count_everything
from magistral_mlx.bench.host_time import HostTime, measure_host_time
from magistral_mlx.errors import UserError

MORE_IS_BETTER = frozenset({"tokens_a_step"})


@dataclass(frozen=True, slots=True)
class StoredFigures:
    """counts: exact. host_time: the least ratio of mlx-lm's processor time to ours, by streams."""

    counts: Mapping[str, float]
    host_time: Mapping[int, float]

    @classmethod
    def read(cls, file: Path) -> "StoredFigures":
        """Raises UserError when the file is missing or incomplete."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            ratios = {int(streams): ratio for streams, ratio in content["host_time"].items()}
            return cls(counts=content["counts"], host_time=ratios)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{file} has no stored figures ({error!r}): write it with --renew."
            ) from error

    def write(self, file: Path) -> None:
        """In the format of `read`."""
        content = {
            "counts": dict(self.counts),
            "host_time": {str(streams): ratio for streams, ratio in self.host_time.items()},
        }
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def wrong_counts(self, counts: Mapping[str, float]) -> list[str]:
        """A line for each count that differs, for the better or the worse."""
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
        return f"{name}: {found} measured, {bound} stored: store it with --renew"
    better = (found > bound) == (name in MORE_IS_BETTER)
    what = "better: store it with --renew" if better else "worse"
    return f"{name}: {found:,} instead of {bound:,}, {what}"


@dataclass(frozen=True, slots=True)
class MeasuredFigures:
    """times: by number of streams; empty if host time was left out."""

    counts: Mapping[str, float]
    times: Mapping[int, HostTime]

    @classmethod
    def measure(cls, *, host_time: bool, done: Callable[[], None]) -> "MeasuredFigures":
        """Count, and measure host time if wanted; `done` is called after each of its runs."""
        with TemporaryDirectory(prefix="bounds-") as scratch:
            counts, folder = count_everything(Path(scratch)), Path(scratch)
            return cls(counts, measure_host_time(folder, done=done) if host_time else {})

    def store(self, file: Path) -> None:
        """Write them as the new bounds; host time that was not measured keeps its old ones."""
        kept = {} if self.times else StoredFigures.read(file).host_time
        found = {n: round(time.ratio - time.noise, 2) for n, time in self.times.items()}
        StoredFigures(self.counts, {**kept, **found}).write(file)

    def wrong(self, stored: StoredFigures) -> list[str]:
        """A line for each figure that is not as stored."""
        return stored.wrong_counts(self.counts) + stored.slow_host(self.times)

    def json(self) -> dict[str, object]:
        """By name and number of streams."""
        times = {streams: asdict(found) for streams, found in self.times.items()}
        return {"counts": dict(self.counts), "host_time": times}

    def tables(self, stored: StoredFigures) -> list[Table]:
        """Counts, and host time if it was measured."""
        counts = Table("count", "measured", "stored", box=None)
        for name, value in self.counts.items():
            counts.add_row(name, f"{value:,}", f"{stored.counts.get(name, 0):,}")
        times = Table("host time", "ms a token", "mlx-lm", "theirs / ours", "noise", "bound")
        times.box = None
        for streams, found in self.times.items():
            seconds = f"{1e3 * found.ours:.2f}", f"{1e3 * found.theirs:.2f}"
            ratios = (found.ratio, found.noise, stored.host_time[streams])
            times.add_row(f"{streams} streams", *seconds, *(f"{ratio:.2f}" for ratio in ratios))
        return [counts, times] if self.times else [counts]
