"""All cases, in order, with a bar; Ctrl-C ends it with what is done."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from magistral_mlx.bench.bench_model import BenchModel
from magistral_mlx.bench.bound import decode_bound
from magistral_mlx.bench.case_result import CaseResult, case_result
from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.contender import Contender, Rates
from magistral_mlx.bench.measurement import Round, measure_round, warm_up


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
    outcome, kv, window = Outcome(), model.kv, model.plan.window
    fitting = {case: case.misfit(window=window, kv=kv) for case in cases}
    outcome.skipped = {str(case): reason for case, reason in fitting.items() if reason is not None}
    measured = [case for case, reason in fitting.items() if reason is None]
    seeds = count(1)  # no prompt comes twice
    with _progress(errors, len(measured) * rounds) as bar:
        for case in measured:
            others = [each for each in contenders if not _refused(each, case, outcome)]
            turns = _Turns([], {each.name: [] for each in others})
            bar.describe(case)
            try:
                _warm_up(model, case, others)
                for _ in range(rounds):
                    turns.take(model, case, others, seed=next(seeds))
                    bar.advance()
            except KeyboardInterrupt:
                outcome.results += turns.results(model, case, bandwidth)
                return outcome
            outcome.results += turns.results(model, case, bandwidth)
    outcome.complete = True
    return outcome


@dataclass(frozen=True, slots=True)
class _Turns:
    """The rounds of one case so far; by contender as many of theirs."""

    ours: list[Round]
    theirs: dict[str, list[Rates]]

    def take(
        self, model: BenchModel, case: Case, others: Sequence[Contender], *, seed: int
    ) -> None:
        """One more round; nothing is added until all of it is done."""
        turn = measure_round(model.engine, case, seed=seed)
        rates = {each.name: each.run(case, seed=seed) for each in others}
        self.ours.append(turn)
        for name, found in rates.items():
            self.theirs[name].append(found)

    def results(self, model: BenchModel, case: Case, bandwidth: float) -> list[CaseResult]:
        """The case's result, if there was a round."""
        bound = decode_bound(model.read, model.dtype, case, bandwidth=bandwidth)
        return [case_result(case, self.ours, self.theirs, bound=bound)] if self.ours else []


def _refused(contender: Contender, case: Case, outcome: Outcome) -> bool:
    reason = contender.refuses(case)
    if reason is not None:
        outcome.refused[f"{contender.name}: {case}"] = reason
    return reason is not None


def _warm_up(model: BenchModel, case: Case, others: Sequence[Contender]) -> None:
    warm_up(model.engine, case)
    for each in others:
        each.warm_up(case)


class _Bar:
    """Which case is under way, and how many runs are done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)

    def describe(self, case: Case) -> None:
        self._progress.update(self._task, description=str(case))

    def advance(self) -> None:
        self._progress.advance(self._task)
        if not self._progress.console.is_terminal:  # where no bar is drawn
            task = self._progress.tasks[self._task]
            self._progress.print(
                f"{task.completed:.0f} of {task.total:.0f} runs: {task.description}"
            )


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
