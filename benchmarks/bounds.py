"""What must not get worse, against the bounds stored in bounds.json; `make bench` runs it.

    python benchmarks/bounds.py            counts, and host time beside mlx-lm: a minute or two
    python benchmarks/bounds.py --counts   the counts alone, in seconds
    python benchmarks/bounds.py --renew    store what was measured

Counts are the same on every machine, and must be exact. Host time is a quotient of processor times,
taken in turn; it may be worse than its bound by as much as it varied. Ends with one line of JSON.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from magistral_mlx.bench.counts import count_everything
from magistral_mlx.bench.host_time import HostTime, measure_host_time
from magistral_mlx.bench.machine_report import this_machine, versions
from magistral_mlx.bench.regressions import Bounds

FILE = Path(__file__).parent / "bounds.json"


def main() -> None:
    """Exits with 1 when a figure got worse, and with 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--counts", action="store_true", help="leave host time out")
    parser.add_argument("--renew", action="store_true", help="store what was measured")
    args = parser.parse_args()
    try:
        counts, times = _measure(host=not args.counts)
    except KeyboardInterrupt:
        sys.exit(130)
    if args.renew:
        kept = {} if times else Bounds.read(FILE).host_time
        found = {n: round(time.ratio - time.noise, 2) for n, time in times.items()}
        Bounds(counts, {**kept, **found}).write(FILE)
    bounds = Bounds.read(FILE)
    Console().print(_counts_table(counts, bounds))
    if times:
        Console().print(_times_table(times, bounds))
    wrong = bounds.wrong_counts(counts) + bounds.slow_host(times)
    for line in wrong:
        print(line, file=sys.stderr)
    print(json.dumps(_report(counts, times, wrong)))
    sys.exit(1 if wrong else 0)


def _measure(*, host: bool) -> tuple[dict[str, float], dict[int, HostTime]]:
    with TemporaryDirectory(prefix="bounds-") as scratch, Console(stderr=True).status("") as shown:
        shown.update("Counting")
        counts = count_everything(Path(scratch))
        if not host:
            return counts, {}
        runs = count(1)
        times = measure_host_time(
            Path(scratch), done=lambda: shown.update(f"Host time: {next(runs)} runs")
        )
    return counts, times


def _counts_table(counts: Mapping[str, float], bounds: Bounds) -> Table:
    table = Table("count", "measured", "stored", box=None)
    for name, value in counts.items():
        table.add_row(name, f"{value:,}", f"{bounds.counts.get(name, 0):,}")
    return table


def _times_table(times: Mapping[int, HostTime], bounds: Bounds) -> Table:
    table = Table("host time", "ms a token", "mlx-lm", "theirs / ours", "noise", "bound", box=None)
    for streams, found in times.items():
        cells = (f"{1e3 * found.ours:.2f}", f"{1e3 * found.theirs:.2f}", f"{found.ratio:.2f}")
        bound = f"{bounds.host_time[streams]:.2f}"
        table.add_row(f"{streams} streams", *cells, f"{found.noise:.2f}", bound)
    return table


def _report(
    counts: Mapping[str, float], times: Mapping[int, HostTime], wrong: list[str]
) -> dict[str, object]:
    return {
        "benchmark": "bounds",
        "date": date.today().isoformat(),
        "machine": asdict(this_machine()),
        "versions": versions(),
        "counts": dict(counts),
        "host_time": {streams: asdict(found) for streams, found in times.items()},
        "wrong": wrong,
    }


if __name__ == "__main__":
    main()
