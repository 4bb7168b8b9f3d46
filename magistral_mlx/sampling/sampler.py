"""Draw the next tokens from logits: temperature, then min-p, top-k and top-p, as vLLM does.

With tokens sorted by probability (equal ones by id), each filter keeps the first ones, so all of
them together keep a number of first tokens. One of these is drawn by inverting their cumulative
distribution at a uniform number, which depends only on the sequence's seed and position.

Sorting 131,072 logits takes as long as a small model's whole step, and the filters nearly always
keep few tokens. So `Sampler` sorts only the largest candidates, and flags rows for which rounding
could change the result; `sample_full` draws those again from all logits, with the same number. The
token does not depend on the flag, nor on the other rows of the batch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from secrets import randbits

import mlx.core as mx
import numpy as np

from magistral_mlx.device import on_cpu
from magistral_mlx.errors import RequestError
from magistral_mlx.spec import TEMPERATURE, TOP_P

MAX_TEMPERATURE = 100.0
MAX_SEED = 2**64 - 1
MAX_BIAS = 100.0
MAX_REPETITION_PENALTY = 10.0
CANDIDATES = 1024
"""How many logits of each row are sorted."""

_GREEDY_BELOW = 1e-5
_BLOCK = 16
_ROUNDING = 1e-5
"""Bounds the relative error of float32 sums over the candidates."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn from the logits; the defaults are the model card's.

    The order is vLLM's: temperature first, then min_p, top_k and top_p on the tempered
    distribution. A temperature of 0 is greedy. top_k 0, top_p 1 and min_p 0 switch a filter off.
    Without a seed, every request gets a random one.

    The others change the logits before that (logit_rules.py):
    presence_penalty: subtracted from the logit of every token in the output.
    frequency_penalty: subtracted once for each occurrence in the output.
    repetition_penalty: divides positive logits of tokens in prompt or output, and multiplies
        negative ones; 1 switches it off.
    logit_bias: added to the logits of these token ids.

    Raises:
        RequestError: a value is outside its range.
    """

    temperature: float = TEMPERATURE
    top_p: float = TOP_P
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _require_real("temperature", self.temperature, 0, MAX_TEMPERATURE)
        _require_real("top_p", self.top_p, 0, 1)
        if self.top_p == 0:
            raise RequestError("top_p is 0; it must be above 0 and at most 1.", field="top_p")
        _require_real("min_p", self.min_p, 0, 1)
        _require_int("top_k", self.top_k, None)
        if self.seed is not None:
            _require_int("seed", self.seed, MAX_SEED)
        _require_real("presence_penalty", self.presence_penalty, -2, 2)
        _require_real("frequency_penalty", self.frequency_penalty, -2, 2)
        _require_real("repetition_penalty", self.repetition_penalty, 0, MAX_REPETITION_PENALTY)
        if self.repetition_penalty == 0:
            raise RequestError(
                "repetition_penalty is 0; it must be above 0, and 1 for none.",
                field="repetition_penalty",
            )
        for token, bias in self.logit_bias.items():
            _require_int("logit_bias", token, None, what="A token id of logit_bias")
            what = f"logit_bias of token {token}"
            _require_real("logit_bias", bias, -MAX_BIAS, MAX_BIAS, what=what)
        # A copy: the caller may change its mapping later.
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))

    @property
    def has_penalties(self) -> bool:
        """Whether earlier tokens change the logits."""
        penalties = self.presence_penalty, self.frequency_penalty, self.repetition_penalty
        return penalties != (0, 0, 1)

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, as vLLM does for temperatures below 1e-5."""
        return self.temperature < _GREEDY_BELOW


@dataclass(frozen=True, slots=True)
class Draw:
    """How to draw from a row of logits.

    seed: of the sequence; `fresh_seed()` if the request has none.
    position: of the drawn token in its sequence. Each position has its own random number.
    """

    params: SamplingParams
    seed: int
    position: int


@dataclass(frozen=True, slots=True)
class Sampled:
    """Lazy results, to be evaluated together.

    tokens: (S,) ids.
    exact: (S,) whether each is certainly the token of `sample_full`; None if all are.
    """

    tokens: mx.array
    exact: mx.array | None


def fresh_seed() -> int:
    """A random seed, for a request without one."""
    return randbits(64)


class Sampler:
    """Draws tokens from rows of logits; on a GPU the arithmetic is compiled once."""

    def __init__(self) -> None:
        # On the CPU, MLX compiles with a C++ compiler, which takes seconds and may be missing.
        self._draw_rows = _draw_rows if on_cpu() else mx.compile(_draw_rows)

    def sample(self, logits: mx.array, draws: Sequence[Draw]) -> Sampled:
        """Draw a token from every row of logits (S, vocab), which need not be normalised."""
        if all(draw.params.greedy for draw in draws):
            return Sampled(mx.argmax(logits, axis=-1), None)
        vocab = logits.shape[-1]
        controls = mx.array([_controls(draw, vocab) for draw in draws])
        return Sampled(*self._draw_rows(logits, controls, _candidates(draws, vocab)))


def sample_full(logits: mx.array, draw: Draw) -> int:
    """Draw a token from one row of logits (vocab,), all of them sorted, in double precision."""
    temperature, lowest, top_k, top_p, uniform = _controls(draw, logits.shape[-1])
    scores = np.array(_tempered(logits, mx.array(temperature)))
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    kept = min(int(top_k), int(np.count_nonzero(scores >= np.float32(lowest))))
    cumulative = np.cumsum(np.exp(scores[:kept], dtype=np.float64))
    if top_p < 1:
        kept = 1 + int(np.searchsorted(cumulative[:-1], top_p * cumulative[-1]))
    drawn = np.searchsorted(cumulative[: kept - 1], uniform * cumulative[kept - 1], side="right")
    return int(order[drawn])


def _controls(draw: Draw, vocab: int) -> tuple[float, float, float, float, float]:
    """Temperature, lowest score that min-p keeps, top_k, top_p, uniform number."""
    params = draw.params
    if params.greedy:
        return 1.0, -math.inf, 1.0, 1.0, 0.0
    lowest = math.log(params.min_p) if params.min_p else -math.inf
    top_k = min(params.top_k or vocab, vocab)
    return params.temperature, lowest, top_k, params.top_p, _uniform(draw.seed, draw.position)


def _uniform(seed: int, position: int) -> float:
    """A number in [0, 1) from a hash, which has no state to keep when a sequence is paused."""
    digest = blake2b(seed.to_bytes(8, "little") + position.to_bytes(8, "little"), digest_size=8)
    return float(int.from_bytes(digest.digest(), "little") >> 11) * 2.0**-53


def _candidates(draws: Sequence[Draw], vocab: int) -> int:
    longest = max(draw.params.top_k for draw in draws)
    return min(vocab, max(CANDIDATES, 1 << longest.bit_length()))


def _tempered(logits: mx.array, temperature: mx.array) -> mx.array:
    """Scores: tempered logits, shifted so that the largest is 0."""
    logits = logits.astype(mx.float32)
    return (logits - logits.max(axis=-1, keepdims=True)) / temperature


def _draw_rows(logits: mx.array, controls: mx.array, candidates: int) -> tuple[mx.array, mx.array]:
    temperature, min_log, top_k, top_p, uniform = mx.split(controls, 5, axis=-1)  # (S, 1) each
    vocab = logits.shape[-1]
    scores = _tempered(logits, temperature)
    total = _total(mx.exp(scores))
    ids, scores = largest(scores, candidates)  # (S, candidates), in falling order
    cumulative = mx.cumsum(mx.exp(scores), axis=-1)

    # The first tokens that min-p and top-k keep, and their mass. If these include the last
    # candidate, there may be more; then the mass is known only without filters.
    passed = (scores >= min_log) & (mx.arange(candidates) < top_k)
    passing = _count(passed)
    inside = (passing < candidates) | (candidates == vocab)
    unfiltered = mx.isinf(min_log) & (top_k >= vocab)
    mass = mx.where(inside, _at(cumulative, passing - 1), total)

    # The fewer tokens that top-p keeps. With rounding, their number may be uncertain.
    edge = mx.where(top_p < 1, top_p, math.inf) * mass
    below, above = _bracket(cumulative, edge, edge, mass)
    ends = inside | (above < candidates)
    fewest, most = mx.minimum(below + 1, passing), mx.minimum(above + 1, passing)
    lightest = mx.where(ends, _at(cumulative, fewest - 1), total)
    heaviest = mx.where(ends, _at(cumulative, most - 1), total)

    # The first token whose cumulative mass exceeds the drawn share of the kept mass.
    below, above = _bracket(cumulative, uniform * lightest, uniform * heaviest, mass)
    drawn = mx.minimum(below, mx.where(ends, fewest, candidates + 1) - 1)
    exact = drawn == mx.minimum(above, mx.where(ends, most, candidates + 1) - 1)
    exact &= (drawn < candidates) & (inside | (unfiltered & (ends | (top_p >= 1))))
    drawn = mx.minimum(drawn, candidates - 1)
    if candidates < vocab:
        # MLX does not define which of several equal scores are the last candidates.
        exact &= _at(scores, drawn) > scores[:, -1:]
    return _at(ids, drawn)[:, 0], exact[:, 0]


def _total(odds: mx.array) -> mx.array:
    """Sums of rows, in two stages: adding many small numbers to one large loses them."""
    return odds.reshape(odds.shape[0], -1, math.gcd(odds.shape[-1], 512)).sum(-1).sum(-1, True)


def largest(scores: mx.array, count: int) -> tuple[mx.array, mx.array]:
    """Ids and values, (S, count) each, of the largest of (S, n) scores.

    In falling order, equal ones by rising id; which equal ones come last is undefined.
    """
    ids = mx.broadcast_to(mx.arange(scores.shape[-1], dtype=mx.uint32), scores.shape)
    if scores.shape[-1] > count * _BLOCK and scores.shape[-1] % _BLOCK == 0:
        # The largest are in the blocks with the largest maxima: far fewer to select from.
        maxima = scores.reshape(scores.shape[0], -1, _BLOCK).max(-1)
        blocks = _top(maxima, count)[..., None]
        ids = (blocks * _BLOCK + mx.arange(_BLOCK, dtype=mx.uint32)).flatten(1)
        scores = _at(scores, ids)
    if scores.shape[-1] > count:
        best = _top(scores, count)
        ids, scores = _at(ids, best), _at(scores, best)
    order = mx.argsort(-scores, axis=-1)
    return _at(ids, order), _at(scores, order)


def _top(scores: mx.array, count: int) -> mx.array:
    """Indices of the largest scores, rising."""
    return mx.sort(mx.argpartition(-scores, count - 1, axis=-1)[:, :count], axis=-1)


def _bracket(
    cumulative: mx.array, low: mx.array, high: mx.array, mass: mx.array
) -> tuple[mx.array, mx.array]:
    """How many cumulative masses are below low, and below high, allowing for rounding."""
    slack = _ROUNDING * mass
    return _count(cumulative < low - slack), _count(cumulative < high + slack)


def _count(mask: mx.array) -> mx.array:
    return mask.sum(axis=-1, keepdims=True)


def _at(array: mx.array, index: mx.array) -> mx.array:
    return mx.take_along_axis(array, index, axis=-1)


def _require_real(
    name: str, value: float, low: float, high: float, *, what: str | None = None
) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise RequestError(
            f"{what or name} is {value!r}; it must be a number from {low:g} to {high:g}.",
            field=name,
        )


def _require_int(name: str, value: int, high: int | None, *, what: str | None = None) -> None:
    integer = isinstance(value, int) and not isinstance(value, bool)
    if not integer or value < 0 or (high is not None and value > high):
        bound = "0 or more" if high is None else f"from 0 to {high}"
        message = f"{what or name} is {value!r}; it must be a whole number, {bound}."
        raise RequestError(message, field=name)
