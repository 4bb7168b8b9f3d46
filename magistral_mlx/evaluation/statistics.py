"""A mean over questions with its 95 % interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""

RESAMPLES = 10_000

Method = Literal["Wilson", "bootstrap"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share from 0 to 1, the 95 % interval around it, and how that was found."""

    value: float
    low: float
    high: float
    method: Method

    def holds(self, value: float) -> bool:
        """Whether a value lies in the interval."""
        return self.low <= value <= self.high


def estimate_mean(scores: Sequence[float]) -> Estimate:
    """The mean of one score a question, each from 0 to 1.

    Where every score is 0 or 1 they are trials, and the interval is Wilson's, which holds for few
    questions and near 0 and 1. Otherwise questions are drawn again and again (percentile bootstrap,
    Efron 1979), always the same draws. Samples of one question are never taken as independent.

    Raises ValueError without a score.
    """
    if not scores:
        raise ValueError("There are no scores: a mean needs one.")
    if all(score in (0, 1) for score in scores):
        low, high = wilson_interval(sum(map(int, scores)), len(scores))
        return Estimate(sum(scores) / len(scores), low, high, "Wilson")
    low, high = bootstrap_interval(scores)
    return Estimate(sum(scores) / len(scores), low, high, "bootstrap")


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's score interval at 95 % (E. B. Wilson, JASA 22, 1927)."""
    share, spread = successes / trials, Z_95**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    # At 0 and 1 the bound is exact, and rounding must not move it inwards.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == trials else middle + half
    return low, high


def bootstrap_interval(
    scores: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of means of questions drawn with replacement."""
    values = np.asarray(scores, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)
