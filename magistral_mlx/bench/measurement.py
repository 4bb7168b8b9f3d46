"""One case on our engine: with prompts that it has never seen, and with their KV at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.contender import Rates
from magistral_mlx.bench.output import Output, decode_rate_if_any
from magistral_mlx.bench.prompts import stream_prompts
from magistral_mlx.bench.recording import run_ours
from magistral_mlx.engine.engine import Engine

KNOWN_SHARE = 0.9
"""Of a prompt, from which on it counts as known: short ones are not kept."""


@dataclass(frozen=True, slots=True)
class Round:
    """One turn. Rates are of all streams, seconds the mean of the streams.

    decode: after the cold prompts and after the known ones, as far as streams decoded together.
    known_first: None where the engine did not keep the prompts.
    peak_bytes: of MLX's memory, weights and all.
    """

    prefill: float
    decode: Sequence[float]
    cold_first: float
    known_first: float | None
    peak_bytes: int

    @property
    def rates(self) -> Rates:
        """What others are compared with: the same work, done once."""
        decode = self.decode[0] if self.decode else None
        return Rates(prefill=self.prefill, decode=decode, first_token=self.cold_first)


def measure_round(engine: Engine, case: Case, *, seed: int) -> Round:
    """Prompts of that seed, twice; afterwards the engine has forgotten them.

    Raises EngineError when the engine fails.
    """
    prompts = stream_prompts(case.prompt, case.streams, seed=seed)
    cold = run_ours(engine, prompts, case.tokens, precision=case.precision)
    known = run_ours(engine, prompts, case.tokens, precision=case.precision)
    engine.forget_finished()
    rates = [decode_rate_if_any(outputs) for outputs in (cold, known)]
    return Round(
        prefill=case.streams * case.prompt / max(map(_first_token, cold)),
        decode=[rate for rate in rates if rate is not None],
        cold_first=mean(map(_first_token, cold)),
        known_first=mean(map(_first_token, known)) if _was_known(known) else None,
        peak_bytes=max(_peak(output) for output in (*cold, *known)),
    )


def warm_up(engine: Engine, case: Case) -> None:
    """Kernels of as many streams at that precision."""
    prompts = stream_prompts(32, case.streams, seed=0)
    run_ours(engine, prompts, 8, precision=case.precision)
    engine.forget_finished()


def _first_token(output: Output) -> float:
    assert output.end is not None
    seconds = output.end.timings.seconds_to_first_token
    assert seconds is not None
    return seconds


def _peak(output: Output) -> int:
    assert output.end is not None
    return output.end.timings.peak_memory_bytes


def _was_known(outputs: Sequence[Output]) -> bool:
    usages = [output.end.usage for output in outputs if output.end is not None]
    return all(usage.cached_tokens >= KNOWN_SHARE * usage.prompt_tokens for usage in usages)
