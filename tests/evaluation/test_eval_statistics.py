"""pass@k, maj@k and their intervals, against brute force, SciPy and NumPy."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from magistral_mlx.evaluation.grading import Grade
from magistral_mlx.evaluation.statistics import (
    bootstrap_interval,
    estimate_mean,
    majority_score,
    pass_at_k,
    wilson_interval,
)

RIGHT, WRONG, NOTHING = Grade("7", right=True), Grade("8", right=False), Grade(None, right=False)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_k_is_the_share_of_draws_of_k_samples_that_hold_a_right_one(
    right: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(right)))
    draws = list(combinations(right, k))
    expected = np.mean([any(draw) for draw in draws])
    assert pass_at_k([RIGHT if each else WRONG for each in right], k) == pytest.approx(expected)


def test_pass_at_k_is_that_of_the_codex_paper() -> None:
    # The product form of Chen et al. 2021, figure 3, for 200 samples of which 13 are right.
    n, c, k = 200, 13, 10
    expected = 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1))
    assert pass_at_k([RIGHT] * c + [WRONG] * (n - c), k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 3])
def test_pass_at_k_refuses_a_k_that_the_samples_do_not_have(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}"):
        pass_at_k([RIGHT, WRONG], k)


@pytest.mark.parametrize(
    ("grades", "score"),
    [
        ([RIGHT, RIGHT, WRONG], 1),
        ([RIGHT, WRONG, WRONG], 0),
        ([RIGHT, WRONG], 0.5),
        ([RIGHT, NOTHING, NOTHING], 1),
        ([NOTHING, NOTHING], 0),
        ([RIGHT, WRONG, Grade("9", right=False)], 1 / 3),
    ],
)
def test_the_majority_decides_ties_share_and_what_came_to_nothing_does_not_vote(
    grades: list[Grade], score: float
) -> None:
    assert majority_score(grades) == pytest.approx(score)


@given(st.integers(1, 300), st.data())
def test_wilsons_interval_is_that_of_scipy(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(successes, trials)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert low <= successes / trials <= high


def test_the_bootstrap_is_that_of_scipy() -> None:
    scores = np.random.default_rng(1).choice([0, 0.25, 0.5, 0.75, 1], size=60).tolist()
    expected = stats.bootstrap(
        (scores,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert bootstrap_interval(scores) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert bootstrap_interval(scores) == bootstrap_interval(scores)


def test_the_bootstrap_holds_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        # 60 questions of different difficulty, 8 samples of each.
        scores = rng.binomial(8, rng.beta(2, 1, size=60)) / 8
        low, high = bootstrap_interval(scores.tolist(), resamples=1_000)
        held += low <= 2 / 3 <= high
    assert 180 <= held <= 198


def test_trials_get_wilsons_interval_and_shares_the_bootstrap() -> None:
    trials = estimate_mean([1, 0, 1, 1])
    assert (trials.value, trials.method) == (0.75, "Wilson")
    assert (trials.low, trials.high) == wilson_interval(3, 4)
    shares = estimate_mean([1, 0.5, 0, 0.25])
    assert (shares.value, shares.method) == (0.4375, "bootstrap")
    assert (shares.low, shares.high) == bootstrap_interval([1, 0.5, 0, 0.25])
    # A bootstrap of equal scores would claim certainty.
    assert estimate_mean([1.0] * 30).low < 0.9


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        estimate_mean([])
