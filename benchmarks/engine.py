"""Our engine beside mlx-lm: same folder, same run, in turn.

    python benchmarks/engine.py [--quick] [single] [batch] [gap] [second-turn] [context]

Without names all of it is measured. Ctrl-C stops, and what is complete is printed. On MLX's CPU
backend both sides compute in float32, on a GPU in bfloat16: the folders store their scales in that
type, so neither converts anything. Nothing else should run on the machine.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from datetime import date
from importlib.metadata import version
from itertools import count

import mlx.core as mx
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from side_by_side import batch, context, gap, second_turn, single
from side_by_side.measurement import Plan, Result
from side_by_side.models import Models, temporary_models

MEASUREMENTS: dict[str, Callable[[Plan], Result]] = {
    "single": single.measure,
    "batch": batch.measure,
    "gap": gap.measure,
    "second-turn": second_turn.measure,
    "context": context.measure,
}


def main() -> None:
    """Measure, print a table each, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"of {', '.join(MEASUREMENTS)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="under a minute, on the nano alone")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - MEASUREMENTS.keys())
    if unknown:
        parser.error(f"{unknown[0]!r} is no measurement: choose of {', '.join(MEASUREMENTS)}")
    names = args.names or list(MEASUREMENTS)
    with temporary_models() as models:
        results = run(names, models, quick=args.quick)
        print(json.dumps(report(results, names, models, quick=args.quick)))


def run(names: Sequence[str], models: Models, *, quick: bool) -> dict[str, Result]:
    """The results of the measurements that were completed; tables are printed as they come."""
    results: dict[str, Result] = {}
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        try:
            for name in names:
                plan = Plan(models, quick, _count_runs(progress, name))
                results[name] = MEASUREMENTS[name](plan)
                Console().print(results[name].table)
        except KeyboardInterrupt:
            progress.console.print("Stopped.")
    return results


def _count_runs(progress: Progress, name: str) -> Callable[[], None]:
    """Show a measurement as the only one under way; what is returned counts its runs."""
    for done in progress.task_ids:
        progress.remove_task(done)
    task, runs = progress.add_task(name, total=None), count(1)
    return lambda: progress.update(task, description=f"{name}: {next(runs)} runs")


def report(
    results: dict[str, Result], names: Sequence[str], models: Models, *, quick: bool
) -> dict[str, object]:
    """The figures and what they depend on, for a machine to read."""
    return {
        "benchmark": "engine",
        "date": date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": str(mx.default_device()),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("mlx", "mlx-lm")},
        },
        "compute": models.dtype,
        "quick": quick,
        "complete": len(results) == len(names),
        "results": {name: result.figures for name, result in results.items()},
    }


if __name__ == "__main__":
    main()
