"""Measures all cases in rounds, on our engine and the contenders in turn; results by case."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from statistics import mean

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from magistral_mlx.bench.bandwidth import decode_bound
from magistral_mlx.bench.bench_model import BenchModel
from magistral_mlx.bench.cases import Case, Contender, Rates, stream_prompts
from magistral_mlx.bench.recording import TimedOutput, joint_decode_rate, run_ours
from magistral_mlx.bench.spread import Ratio, Spread, four_digits
from magistral_mlx.engine.engine import Engine
from magistral_mlx.events import Finished

KNOWN_SHARE = 0.9
"""A prompt is known if at least this part of it was kept: very short ones are not kept."""

Comparison = Mapping[str, Ratio | None]
"""Ours over theirs by the name of a rate, more is better; None where one side has no such rate."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round on our engine: rates of all streams, and the streams' mean of seconds.

    decode: of the new prompts and of the known ones, if the streams decoded together long enough.
    known_first: None if the engine did not keep the prompts.
    peak_bytes: of MLX's memory, weights included.
    """

    prefill: float
    decode: Sequence[float]
    cold_first: float
    known_first: float | None
    peak_bytes: int

    @property
    def rates(self) -> Rates:
        """The part that a contender measures too: new prompts, once."""
        decode = self.decode[0] if self.decode else None
        return Rates(prefill=self.prefill, decode=decode, first_token=self.cold_first)


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
            "compared": {
                other: {name: ratio and ratio.json() for name, ratio in found.items()}
                for other, found in self.comparisons.items()
            },
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
    with _progress(errors) as progress:
        task = progress.add_task("", total=len(measured) * rounds)
        for case in measured:
            others = [each for each in contenders if not _refused(each, case, outcome)]
            done = _CaseRounds([], {each.name: [] for each in others})
            progress.update(task, description=str(case))
            try:
                _warm_up(model.engine, case)
                for each in others:
                    each.warm_up(case)
                for _ in range(rounds):
                    done.run(model, case, others, seed=next(seeds))
                    _advance(progress)
            except KeyboardInterrupt:
                return outcome
            finally:
                outcome.results += done.results(model, case, bandwidth)
    outcome.complete = True
    return outcome


def _refused(contender: Contender, case: Case, outcome: Outcome) -> bool:
    reason = contender.refuses(case)
    if reason is not None:
        outcome.refused[f"{contender.name}: {case}"] = reason
    return reason is not None


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
    found: dict[str, Ratio | None] = {}
    for name in ("prefill", "decode", "first_token"):
        pairs = [(getattr(a, name), getattr(b, name)) for a, b in zip(ours, theirs, strict=True)]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        sides = zip(*known, strict=True)
        found[name] = Ratio.of(*sides, inverse=name == "first_token") if known else None
    return found


def measure_round(engine: Engine, case: Case, *, seed: int) -> Round:
    """Run prompts of that seed twice, then let the engine forget them.

    Raises EngineError when the engine fails.
    """
    prompts = stream_prompts(case.prompt, case.streams, seed=seed)
    cold = run_ours(engine, prompts, case.tokens, precision=case.precision)
    known = run_ours(engine, prompts, case.tokens, precision=case.precision)
    engine.forget_finished()
    rates = [joint_decode_rate(outputs) for outputs in (cold, known)]
    return Round(
        prefill=case.streams * case.prompt / max(map(_first_token, cold)),
        decode=[rate for rate in rates if rate is not None],
        cold_first=mean(map(_first_token, cold)),
        known_first=mean(map(_first_token, known)) if all(map(_was_known, known)) else None,
        peak_bytes=max(_end(output).timings.peak_memory_bytes for output in (*cold, *known)),
    )


def _warm_up(engine: Engine, case: Case) -> None:
    """Compile the kernels for this number of streams and precision."""
    prompts = stream_prompts(32, case.streams, seed=0)
    run_ours(engine, prompts, 8, precision=case.precision)
    engine.forget_finished()


def _first_token(output: TimedOutput) -> float:
    seconds = _end(output).timings.seconds_to_first_token
    assert seconds is not None
    return seconds


def _was_known(output: TimedOutput) -> bool:
    usage = _end(output).usage
    return usage.cached_tokens >= KNOWN_SHARE * usage.prompt_tokens


def _end(output: TimedOutput) -> Finished:
    assert output.end is not None
    return output.end


@contextmanager
def _progress(errors: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as progress:
        yield progress


def _advance(progress: Progress) -> None:
    """A round is done: a line says so where no bar is drawn."""
    (task,) = progress.tasks
    progress.advance(task.id)
    if not progress.console.is_terminal:
        progress.print(f"{task.completed:.0f} of {task.total:.0f} runs: {task.description}")
