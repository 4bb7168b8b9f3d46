"""All cases, in order, with a bar; Ctrl-C ends it with what is done."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from magistral_mlx.bench.bench_model import BenchModel
from magistral_mlx.bench.bound import decode_bound
from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.contender import Contender, Rates
from magistral_mlx.bench.measurement import Round, measure_round, warm_up
from magistral_mlx.bench.result import CaseResult, case_result


@dataclass(slots=True)
class Outcome:
    """Results so far. skipped: cases that do not fit, with the reason; refused: by a contender."""

    results: list[CaseResult] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    complete: bool = False


def run_cases(
    model: BenchModel,
    cases: Sequence[Case],
    contenders: Sequence[Contender],
    *,
    bandwidth: float,
    rounds: int,
    errors: Console,
) -> Outcome:
    """Measure each case `rounds` times, ours and theirs in turn.

    A case that Ctrl-C interrupts counts with the rounds that were completed.

    Raises UserError when a contender fails, and EngineError when the engine does.
    """
    outcome, fitting = Outcome(), _fitting(model, cases)
    outcome.skipped = {str(case): reason for case, reason in fitting.items() if reason is not None}
    measured = [case for case, reason in fitting.items() if reason is None]
    seeds = count(1)  # no prompt comes twice
    with _progress(errors, len(measured) * rounds) as bar:
        for case in measured:
            taken: list[Round] = []
            others = {each.name: each for each in contenders if not _refused(each, case, outcome)}
            theirs: dict[str, list[Rates]] = {name: [] for name in others}
            try:
                bar.describe(case)
                _warm_up(model, case, others)
                for _ in range(rounds):
                    seed = next(seeds)
                    turn = measure_round(model.engine, case, seed=seed)
                    rates = {name: each.run(case, seed=seed) for name, each in others.items()}
                    taken.append(turn)
                    for name, each in rates.items():
                        theirs[name].append(each)
                    bar.advance()
            except KeyboardInterrupt:
                if taken:
                    outcome.results.append(_result(model, case, taken, theirs, bandwidth))
                return outcome
            outcome.results.append(_result(model, case, taken, theirs, bandwidth))
    outcome.complete = True
    return outcome


def _fitting(model: BenchModel, cases: Sequence[Case]) -> dict[Case, str | None]:
    kv, window = model.kv, model.plan.window
    return {case: case.misfit(window=window, kv=kv) for case in cases}


def _refused(contender: Contender, case: Case, outcome: Outcome) -> bool:
    reason = contender.refuses(case)
    if reason is not None:
        outcome.refused[f"{contender.name}: {case}"] = reason
    return reason is not None


def _warm_up(model: BenchModel, case: Case, others: Mapping[str, Contender]) -> None:
    warm_up(model.engine, case)
    for each in others.values():
        each.warm_up(case)


def _result(
    model: BenchModel,
    case: Case,
    rounds: Sequence[Round],
    theirs: Mapping[str, Sequence[Rates]],
    bandwidth: float,
) -> CaseResult:
    bound = decode_bound(model.config, model.dtype, case, bandwidth=bandwidth)
    return case_result(case, rounds, theirs, bound=bound)


class _Bar:
    """Which case is under way, and how many runs are done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)

    def describe(self, case: Case) -> None:
        self._progress.update(self._task, description=str(case))

    def advance(self) -> None:
        self._progress.advance(self._task)


@contextmanager
def _progress(errors: Console, total: int) -> Iterator[_Bar]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as progress:
        yield _Bar(progress, total)
