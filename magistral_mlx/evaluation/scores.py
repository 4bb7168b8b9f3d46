"""What several samples of one question score: pass@1, pass@k, maj@k."""

from collections import Counter
from collections.abc import Sequence
from math import comb

from magistral_mlx.evaluation.grading import Grade


def pass_at_k(grades: Sequence[Grade], k: int) -> float:
    """The probability that k of the samples, drawn without replacement, hold a right one.

    The unbiased estimator 1 - C(n - c, k) / C(n, k) of Chen et al. 2021 (arXiv 2107.03374), for c
    right of n samples. For k = 1 it is the share of right samples. Raises ValueError when k is not
    from 1 to n.
    """
    n = len(grades)
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; with {n} samples it must be 1 to {n}.")
    wrong = sum(not grade.right for grade in grades)
    return 1 - comb(wrong, k) / comb(n, k)


def majority_score(grades: Sequence[Grade]) -> float:
    """1 when the answer that most samples come to is right, 0 when it is not.

    Samples that come to nothing do not vote. Where answers have equally many votes, one of them is
    drawn: the score is the right ones' share. Wang et al. 2022 (arXiv 2203.11171).
    """
    votes = Counter(grade.extracted for grade in grades if grade.extracted is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    leaders = {answer for answer, count in votes.items() if count == most}
    right = {grade.extracted for grade in grades if grade.right} & leaders
    return len(right) / len(leaders)
