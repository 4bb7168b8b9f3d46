"""Sampling: the distribution against NumPy, seeds, batches, and the short way against the full."""

import math
from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from magistral_mlx.errors import RequestError
from magistral_mlx.sampling.sampler import (
    CANDIDATES,
    MAX_SEED,
    Draw,
    Sampler,
    SamplingParams,
    fresh_seed,
    sample_full,
)

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

PLAIN = SamplingParams(temperature=1, top_p=1)


def draw_all(logits: mx.array, draws: Sequence[Draw]) -> tuple[list[int], list[bool]]:
    """Final tokens of (S, vocab) as the engine takes them, and which were drawn the short way."""
    sampled = Sampler().sample(logits, draws)
    exact = [True] * len(draws) if sampled.exact is None else np.array(sampled.exact).tolist()
    tokens = np.array(sampled.tokens).tolist()
    rows = zip(range(len(draws)), tokens, exact, strict=True)
    return [t if ok else sample_full(logits[i], draws[i]) for i, t, ok in rows], exact


def reference(logits: Floats, params: SamplingParams) -> Floats:
    """The probabilities, in vLLM's order, written for clarity."""
    tempered = logits / params.temperature
    odds = np.exp(tempered - tempered.max())
    order = np.argsort(-odds, kind="stable")
    odds = odds[order]
    odds[odds < params.min_p] = 0
    if params.top_k:
        odds[params.top_k :] = 0
    odds /= odds.sum()
    before = np.cumsum(odds) - odds
    odds[before >= params.top_p - 1e-9 * (params.top_p < 1)] = 0
    probabilities = np.zeros_like(odds)
    probabilities[order] = odds / odds.sum()
    return probabilities


def p_value(tokens: list[int], probabilities: Floats) -> float:
    """Chi-square over bins of at least ten expected draws; zero for a token that cannot be."""
    if (probabilities[tokens] == 0).any():
        return 0.0
    order = np.argsort(-probabilities, kind="stable")[: np.count_nonzero(probabilities)]
    expected = probabilities[order] * len(tokens)
    seen = np.bincount(tokens, minlength=len(probabilities))[order]
    bins = np.minimum(np.cumsum(expected) - expected, len(tokens) - 10) // 10
    _, starts = np.unique(bins, return_index=True)
    result = chisquare(np.add.reduceat(seen, starts), np.add.reduceat(expected, starts))
    return float(result.pvalue) if len(starts) > 1 else 1.0


def peaked(vocab: int, spread: float = 2.5) -> Floats:
    return np.random.default_rng(vocab).normal(0, spread, vocab).astype(np.float32).astype(float)


def ties() -> Floats:
    return np.repeat([2.0, 1.0, 1.0, 0.0, -1.0], 8)[np.random.default_rng(0).permutation(40)]


@pytest.mark.parametrize(
    "params",
    [
        PLAIN,
        SamplingParams(),
        SamplingParams(temperature=2.0, top_p=0.6),
        SamplingParams(temperature=0.5, top_p=1, min_p=0.05),
        SamplingParams(temperature=1.5, top_p=1, top_k=7),
        SamplingParams(temperature=1.3, top_p=0.8, top_k=20),
        SamplingParams(temperature=1.7, top_p=0.9, top_k=12, min_p=0.1),
        SamplingParams(temperature=100, top_p=0.999),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["small", "ties", "large", "nearly flat"])
def test_tokens_follow_the_reference_distribution(name: str, params: SamplingParams) -> None:
    logits = {
        "small": peaked(60),
        "ties": ties(),
        "large": peaked(2048, 3.5),
        "nearly flat": peaked(2048, 0.02),
    }[name]
    draws = [Draw(params, seed=number // 10, position=number % 10) for number in range(2000)]
    rows = mx.broadcast_to(mx.array(logits.astype(np.float32)), (len(draws), len(logits)))
    tokens, _ = draw_all(rows, draws)
    assert p_value(tokens, reference(logits, params)) > 1e-3


def test_the_chi_square_would_notice_temperature_applied_last() -> None:
    logits, params = peaked(60), SamplingParams(temperature=2.0, top_p=0.6)
    draws = [Draw(params, seed, 0) for seed in range(2000)]
    tokens, _ = draw_all(mx.broadcast_to(mx.array(logits), (2000, 60)), draws)
    top_p_first = reference(logits, replace(params, temperature=1.0))
    with np.errstate(divide="ignore"):
        temperature_last = reference(np.log(top_p_first), replace(params, top_p=1.0))
    assert p_value(tokens, temperature_last) < 1e-6


params_of_any_kind = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.1, 0.7, 1.0, 2.0]),
    top_p=st.sampled_from([1e-6, 0.3, 0.5, 0.95, 1.0]),
    top_k=st.sampled_from([0, 1, 3, CANDIDATES, CANDIDATES + 100, 10**9]),
    min_p=st.sampled_from([0.0, 1e-4, 0.2, 1.0]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(params_of_any_kind, min_size=1, max_size=4),
    st.sampled_from([5, 40, 1500, 32 * CANDIDATES]),
    st.sampled_from([0.0, 0.01, 1.0, 4.0, 30.0]),
    st.booleans(),
    st.integers(0, MAX_SEED),
)
def test_the_short_way_says_exact_only_for_the_token_of_the_full_way(
    params: list[SamplingParams], vocab: int, spread: float, rounded: bool, seed: int
) -> None:
    numbers = np.random.default_rng(seed).normal(0, spread, (len(params), vocab))
    logits = mx.array((numbers.round() if rounded else numbers).astype(np.float32))
    draws = [Draw(each, seed, position) for position, each in enumerate(params)]
    tokens, _ = draw_all(logits, draws)
    assert tokens == [sample_full(row, draw) for row, draw in zip(logits, draws, strict=True)]


def test_a_row_is_the_same_whoever_shares_its_batch() -> None:
    vocab = 20 * CANDIDATES
    logits = mx.random.normal((6, vocab), key=mx.random.key(0)) * 3
    kinds = [
        SamplingParams(),
        SamplingParams(temperature=0),
        SamplingParams(top_k=2 * CANDIDATES),
        SamplingParams(min_p=0.01),
        PLAIN,
        SamplingParams(temperature=3),
    ]
    draws = [Draw(params, seed, 5) for seed, params in enumerate(kinds)]
    alone = [draw_all(logits[i : i + 1], draws[i : i + 1])[0][0] for i in range(6)]
    assert draw_all(logits, draws)[0] == alone
    turned = [3, 0, 5, 4, 1, 2]
    tokens, _ = draw_all(logits[mx.array(turned)], [draws[i] for i in turned])
    assert tokens == [alone[i] for i in turned]


def test_sharply_peaked_rows_need_no_full_sort_and_flat_ones_do() -> None:
    draws = [Draw(SamplingParams(), seed, 0) for seed in range(64)]
    noise = mx.random.normal((64, 32 * CANDIDATES), key=mx.random.key(1))
    assert all(draw_all(noise * 6, draws)[1])
    sampled = Sampler().sample(noise * 0.1, draws)
    assert sampled.exact is not None
    assert not mx.any(sampled.exact)


def test_temperature_zero_is_argmax_and_needs_no_flag() -> None:
    logits = mx.random.normal((5, 3000), key=mx.random.key(2))
    greedy = SamplingParams(temperature=0, top_p=0.1, top_k=5)
    sampled = Sampler().sample(logits, [Draw(greedy, 0, 0)] * 5)
    assert sampled.exact is None
    assert mx.array_equal(sampled.tokens, mx.argmax(logits, axis=-1))
    mixed, _ = draw_all(logits, [Draw(greedy, 0, 0)] * 4 + [Draw(PLAIN, 0, 0)])
    assert mixed[:4] == np.array(sampled.tokens)[:4].tolist()


def test_equal_logits_are_told_apart_by_their_ids_like_argmax() -> None:
    logits = mx.zeros((2, 3000))
    tokens, _ = draw_all(logits, [Draw(SamplingParams(temperature=0), 0, 0), Draw(PLAIN, 0, 0)])
    assert tokens[0] == 0
    top_3 = [Draw(SamplingParams(top_k=3, top_p=1), seed, 0) for seed in range(200)]
    assert set(draw_all(mx.zeros((200, 3000)), top_3)[0]) == {0, 1, 2}


@pytest.mark.parametrize(
    ("spread", "decimals", "params"),
    [
        # Only some of the tokens with one score are candidates.
        (1.0, 0, SamplingParams(temperature=0.5, top_p=1)),
        # min-p goes on beyond the candidates, so that what top-p is a share of is not known.
        (0.5, 6, SamplingParams(temperature=1, top_p=0.03, min_p=0.2)),
    ],
)
def test_a_row_that_the_candidates_do_not_decide_is_flagged(
    spread: float, decimals: int, params: SamplingParams
) -> None:
    numbers = np.random.default_rng(5).normal(0, spread, 32 * CANDIDATES).round(decimals)
    row = mx.array(numbers.astype(np.float32))
    draws = [Draw(params, seed, 0) for seed in range(100)]
    tokens, exact = draw_all(mx.broadcast_to(row, (100, row.size)), draws)
    assert tokens == [sample_full(row, draw) for draw in draws]
    assert not all(exact)


@pytest.mark.parametrize("vocab", [50, 2 * CANDIDATES])
def test_a_masked_token_is_never_drawn(vocab: int) -> None:
    logits = mx.full((300, vocab), -math.inf)
    logits[:, 17] = -5.0
    logits[:, 33] = -6.0
    tokens, _ = draw_all(logits, [Draw(PLAIN, seed, 1) for seed in range(300)])
    assert set(tokens) == {17, 33}


def test_seed_and_position_decide() -> None:
    row = mx.random.normal((1, 500), key=mx.random.key(3))
    rows = mx.broadcast_to(row, (200, 500))

    def drawn(draws: list[Draw]) -> list[int]:
        return draw_all(rows, draws)[0]

    first = drawn([Draw(PLAIN, 7, position) for position in range(200)])
    assert first == drawn([Draw(PLAIN, 7, position) for position in range(200)])
    assert first != drawn([Draw(PLAIN, 8, position) for position in range(200)])
    assert len(set(first)) > 50
    assert len(set(drawn([Draw(PLAIN, seed, 7) for seed in range(200)]))) > 50
    assert draw_all(row, [Draw(PLAIN, MAX_SEED, 0)])[0] != [-1]
    assert 0 <= fresh_seed() <= MAX_SEED
    assert fresh_seed() != fresh_seed()


def test_takes_logits_of_any_float_type() -> None:
    logits = (mx.random.normal((3, 900), key=mx.random.key(4)) * 4).astype(mx.bfloat16)
    draws = [Draw(SamplingParams(), seed, 0) for seed in range(3)]
    assert draw_all(logits, draws) == draw_all(logits.astype(mx.float32), draws)


def test_defaults_are_the_model_cards() -> None:
    params = SamplingParams()
    assert (params.temperature, params.top_p) == (0.7, 0.95)
    assert (params.top_k, params.min_p, params.seed) == (0, 0.0, None)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("temperature", -0.1, "from 0 to 100"),
        ("temperature", math.nan, "from 0 to 100"),
        ("temperature", math.inf, "from 0 to 100"),
        ("temperature", "hot", "from 0 to 100"),
        ("temperature", True, "from 0 to 100"),
        ("top_p", 0, "above 0 and at most 1"),
        ("top_p", 1.01, "from 0 to 1"),
        ("top_k", -1, "0 or more"),
        ("top_k", 1.5, "0 or more"),
        ("min_p", -1e-9, "from 0 to 1"),
        ("min_p", 2, "from 0 to 1"),
        ("seed", -1, f"from 0 to {MAX_SEED}"),
        ("seed", 2**64, f"from 0 to {MAX_SEED}"),
        ("seed", 0.5, f"from 0 to {MAX_SEED}"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(
    name: str, value: object, allowed: str
) -> None:
    with pytest.raises(RequestError) as refusal:
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    message = str(refusal.value)
    assert message.startswith(f"{name} is {value!r}; ")
    assert allowed in message
