"""What came of a case: its figures, its bound, and how others did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.contender import Rates
from magistral_mlx.bench.measurement import Round
from magistral_mlx.bench.pairs import Ratio, ratio_of
from magistral_mlx.bench.spread import Spread


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
    """bound: tokens a second of decoding that the memory's bandwidth allows."""

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
        """The part of the bound that was reached."""
        return self.decode.median / self.bound if self.decode else None

    def json(self) -> dict[str, object]:
        """Tokens a second, seconds and bytes."""
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
            "decode_bound_tokens_s": float(f"{self.bound:.4g}"),
            "reached": None if self.reached is None else float(f"{self.reached:.4g}"),
            "peak_memory_bytes": self.peak_bytes,
            "compared": {name: each.json() for name, each in self.comparisons.items()},
        }


def case_result(
    case: Case, rounds: Sequence[Round], theirs: Mapping[str, Sequence[Rates]], *, bound: float
) -> CaseResult:
    """Of one round and more; of each other one as many rates, or none."""
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
    return ratio_of([a for a, _ in known], [b for _, b in known], inverse=inverse)
