"""Our engine beside mlx-lm: same folder, same run, in turn. Ctrl-C keeps the complete rows.

python benchmarks/engine.py [--quick] [streams] [gap] [second-turn]
"""

import argparse
from collections.abc import Callable, Sequence
from itertools import count

from rich.console import Console
from rich.table import Table

from magistral_mlx.bench.bench_model import SideBySide, side_by_side
from magistral_mlx.bench.report_parts import json_line
from magistral_mlx.bench.streams import Figures, measure_streams
from magistral_mlx.bench.waits import measure_gap, measure_second_turn

MEASUREMENTS: dict[str, Callable[[SideBySide], tuple[Table, Figures]]] = {
    "streams": measure_streams,
    "gap": measure_gap,
    "second-turn": measure_second_turn,
}


def main() -> None:
    """Measure, print a table each, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"of {', '.join(MEASUREMENTS)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="under a minute, with the demo alone")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - MEASUREMENTS.keys())
    if unknown:
        parser.error(f"{unknown[0]!r} is no measurement: choose from {', '.join(MEASUREMENTS)}")
    names, runs = args.names or list(MEASUREMENTS), count(1)
    with (
        Console(stderr=True).status("") as shown,
        side_by_side(quick=args.quick, done=lambda: shown.update(f"{next(runs)} runs")) as models,
    ):
        results = run(names, models)
    report = {"compute": models.dtype, "quick": args.quick, "complete": len(results) == len(names)}
    print(json_line("engine", report | {"results": results}))


def run(names: Sequence[str], models: SideBySide) -> dict[str, Figures]:
    """Figures of the completed measurements; tables are printed as they come."""
    results: dict[str, Figures] = {}
    try:
        for name in names:
            table, results[name] = MEASUREMENTS[name](models)
            Console().print(table)
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted: these are the results so far.")
    return results


if __name__ == "__main__":
    main()
