"""One round of a case: on our engine, with new and with known prompts, and on a contender."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Protocol

from magistral_mlx.bench.cases import Case, stream_prompts
from magistral_mlx.bench.recording import TimedOutput, joint_decode_rate, run_ours
from magistral_mlx.engine.engine import Engine
from magistral_mlx.events import Finished

KNOWN_SHARE = 0.9
"""A prompt is known if at least this part of it was kept: very short ones are not kept."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second of all streams, seconds to the first token; None: not measured."""

    prefill: float | None = None
    decode: float | None = None
    first_token: float | None = None


class Contender(Protocol):
    """An engine compared with ours, run in turn."""

    name: str

    def refuses(self, case: Case) -> str | None:
        """Why it cannot run a case; None when it can."""

    def warm_up(self, case: Case) -> None:
        """Pay what only the first run of such a case costs."""

    def run(self, case: Case, *, seed: int) -> Rates:
        """Run the case once, with prompts of that seed. Raises UserError when it fails."""


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


def warm_up(engine: Engine, case: Case) -> None:
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
