"""Figures that must not get worse, against those in bounds.json; `make bench` runs it.

python benchmarks/bounds.py            counts, and host time beside mlx-lm: two to three minutes
python benchmarks/bounds.py --counts   the counts alone, in seconds
python benchmarks/bounds.py --renew    store what was measured
"""

import argparse
import sys
from itertools import count
from pathlib import Path

from rich.console import Console

from magistral_mlx.bench.regressions import MeasuredFigures, StoredFigures
from magistral_mlx.bench.report_parts import json_line

FILE = Path(__file__).parent / "bounds.json"


def main() -> None:
    """Exits with 1 when a figure got worse, and with 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--counts", action="store_true", help="leave host time out")
    parser.add_argument("--renew", action="store_true", help="store what was measured")
    args = parser.parse_args()
    runs = count(1)
    try:
        with Console(stderr=True).status("Counting") as shown:
            measured = MeasuredFigures.measure(
                host_time=not args.counts,
                done=lambda: shown.update(f"Host time: {next(runs)} runs"),
            )
    except KeyboardInterrupt:
        sys.exit(130)
    if args.renew:
        measured.store(FILE)
    stored = StoredFigures.read(FILE)
    Console().print(*measured.tables(stored))
    wrong = measured.wrong(stored)
    for line in wrong:
        print(line, file=sys.stderr)
    print(json_line("bounds", measured.json() | {"wrong": wrong}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
