"""Scores of one question's samples, and means over questions with their 95 % intervals."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from magistral_mlx.evaluation.grading import Grade

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""

RESAMPLES = 10_000

Method = Literal["Wilson", "bootstrap"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share from 0 to 1 with its 95 % interval, and the method of the interval."""

    value: float
    low: float
    high: float
    method: Method

    def holds(self, value: float) -> bool:
        """Whether a value is in the interval."""
        return self.low <= value <= self.high


def estimate_mean(scores: Sequence[float]) -> Estimate:
    """The mean of the questions' scores, each from 0 to 1.

    If every score is 0 or 1, the interval is Wilson's, which holds for few questions and near 0
    and 1. Otherwise it is a percentile bootstrap over questions (Efron 1979) with a fixed seed.
    Samples of one question never count as independent.

    Raises ValueError without scores.
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
    # At 0 and 1 the bound is exact: rounding must not move it inwards.
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


def pass_at_k(grades: Sequence[Grade], k: int) -> float:
    """The probability that k samples, drawn without replacement, include a right one.

    The unbiased estimator 1 - C(n - c, k) / C(n, k) of Chen et al. 2021 (arXiv 2107.03374), for c
    right of n samples. For k = 1 it is the share of right samples. Raises ValueError unless k is
    from 1 to n.
    """
    n = len(grades)
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; with {n} samples it must be 1 to {n}.")
    wrong = sum(not grade.right for grade in grades)
    return 1 - math.comb(wrong, k) / math.comb(n, k)


def majority_score(grades: Sequence[Grade]) -> float:
    """1 if the most frequent result is right, otherwise 0 (Wang et al. 2022, arXiv 2203.11171).

    Samples without a result do not vote. If several results have the most votes, the score is the
    share of right ones among them.
    """
    votes = Counter(grade.extracted for grade in grades if grade.extracted is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    leaders = {answer for answer, count in votes.items() if count == most}
    right = {grade.extracted for grade in grades if grade.right} & leaders
    return len(right) / len(leaders)
