"""The measuring of all cases, and what is found for each."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from magistral_mlx.bench.bandwidth import decode_bound
from magistral_mlx.bench.bench_model import BenchModel
from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.measurement import Contender, Rates, Round, measure_round, warm_up
from magistral_mlx.bench.spread import Ratio, Spread, four_digits


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours over theirs, more is better; None where one side has no such figure."""

    prefill: Ratio | None
    decode: Ratio | None
    first_token: Ratio | None

    def json(self) -> dict[str, object]:
        """By name."""
        rows = ("prefill", self.prefill), ("decode", self.decode), ("first_token", self.first_token)
        return {name: None if ratio is None else ratio.json() for name, ratio in rows}


@dataclass(frozen=True, slots=True)
class CaseResult:
    """bound: tokens per second of decoding that the memory bandwidth allows."""

    case: Case
    prefill: Spread
    decode: Spread | None
    cold_first: Spread
    known_first: Spread | None
    peak_bytes: int
    bound: float
    comparisons: Mapping[str, Comparison]

    @property
    def reached(self) -> float | None:
        """The decode rate as a fraction of the bound."""
        return self.decode.median / self.bound if self.decode else None

    def json(self) -> dict[str, object]:
        """Tokens per second, seconds and bytes."""
        spreads = {
            "prefill_tokens_s": self.prefill,
            "decode_tokens_s": self.decode,
            "first_token_s": self.cold_first,
            "first_token_known_prefix_s": self.known_first,
        }
        return {
            "prompt": self.case.prompt,
            "streams": self.case.streams,
            "kv_bits": self.case.kv_bits,
            "tokens": self.case.tokens,
            **{name: spread.json() if spread else None for name, spread in spreads.items()},
            "decode_bound_tokens_s": four_digits(self.bound),
            "reached": None if self.reached is None else four_digits(self.reached),
            "peak_memory_bytes": self.peak_bytes,
            "compared": {name: each.json() for name, each in self.comparisons.items()},
        }


@dataclass(slots=True)
class Outcome:
    """Results so far. skipped: why a case does not fit; refused: why a contender cannot run it."""

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
    """Measure each case `rounds` times, ours and the contenders in turn, with a progress bar.

    Ctrl-C ends it; the interrupted case counts with its complete rounds.

    Raises UserError when a contender fails, and EngineError when the engine does.
    """
    outcome, kv, window = Outcome(), model.kv, model.plan.window
    misfits = {case: case.misfit(window=window, kv=kv) for case in cases}
    outcome.skipped = {str(case): reason for case, reason in misfits.items() if reason is not None}
    measured = [case for case, reason in misfits.items() if reason is None]
    seeds = count(1)  # no prompt comes twice
    with _progress(errors, len(measured) * rounds) as bar:
        for case in measured:
            others = [each for each in contenders if not _refused(each, case, outcome)]
            done = _CaseRounds([], {each.name: [] for each in others})
            bar.describe(case)
            try:
                _warm_up(model, case, others)
                for _ in range(rounds):
                    done.run(model, case, others, seed=next(seeds))
                    bar.advance()
            except KeyboardInterrupt:
                outcome.results += done.results(model, case, bandwidth)
                return outcome
            outcome.results += done.results(model, case, bandwidth)
    outcome.complete = True
    return outcome


def _refused(contender: Contender, case: Case, outcome: Outcome) -> bool:
    reason = contender.refuses(case)
    if reason is not None:
        outcome.refused[f"{contender.name}: {case}"] = reason
    return reason is not None


def _warm_up(model: BenchModel, case: Case, others: Sequence[Contender]) -> None:
    warm_up(model.engine, case)
    for each in others:
        each.warm_up(case)


@dataclass(frozen=True, slots=True)
class _CaseRounds:
    """The complete rounds of one case: ours, and each contender's."""

    ours: list[Round]
    theirs: dict[str, list[Rates]]

    def run(self, model: BenchModel, case: Case, others: Sequence[Contender], *, seed: int) -> None:
        """One more round; nothing is added until all of it is done."""
        ours = measure_round(model.engine, case, seed=seed)
        rates = {each.name: each.run(case, seed=seed) for each in others}
        self.ours.append(ours)
        for name, found in rates.items():
            self.theirs[name].append(found)

    def results(self, model: BenchModel, case: Case, bandwidth: float) -> list[CaseResult]:
        """The case's result, if there was a round."""
        bound = decode_bound(model.read, model.dtype, case, bandwidth=bandwidth)
        return [case_result(case, self.ours, self.theirs, bound=bound)] if self.ours else []


def case_result(
    case: Case, rounds: Sequence[Round], theirs: Mapping[str, Sequence[Rates]], *, bound: float
) -> CaseResult:
    """Of at least one round; a contender with fewer rounds than ours is left out."""
    prefill = Spread.of([each.prefill for each in rounds])
    cold = Spread.of([each.cold_first for each in rounds])
    assert prefill is not None
    assert cold is not None
    return CaseResult(
        case=case,
        prefill=prefill,
        decode=Spread.of([rate for each in rounds for rate in each.decode]),
        cold_first=cold,
        known_first=Spread.of([each.known_first for each in rounds]),
        peak_bytes=max(each.peak_bytes for each in rounds),
        bound=bound,
        comparisons={
            name: _comparison([r.rates for r in rounds], rates)
            for name, rates in theirs.items()
            if len(rates) == len(rounds)
        },
    )


def _comparison(ours: Sequence[Rates], theirs: Sequence[Rates]) -> Comparison:
    pairs = list(zip(ours, theirs, strict=True))
    return Comparison(
        prefill=_ratio([(a.prefill, b.prefill) for a, b in pairs]),
        decode=_ratio([(a.decode, b.decode) for a, b in pairs]),
        first_token=_ratio([(a.first_token, b.first_token) for a, b in pairs], inverse=True),
    )


def _ratio(
    pairs: Sequence[tuple[float | None, float | None]], *, inverse: bool = False
) -> Ratio | None:
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not known:
        return None
    return Ratio.of([a for a, _ in known], [b for _, b in known], inverse=inverse)


class _Bar:
    """The case being measured, and how many rounds are done."""

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
