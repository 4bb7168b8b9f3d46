"""Sampling parameters of a request."""

import math
from dataclasses import dataclass

from magistral_mlx.errors import RequestError
from magistral_mlx.spec import TEMPERATURE, TOP_P

MAX_TEMPERATURE = 100.0
MAX_SEED = 2**64 - 1
_GREEDY_BELOW = 1e-5


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn from the logits; the defaults are the model card's.

    The order is vLLM's: temperature first, then min_p, top_k and top_p on the tempered
    distribution. A temperature of 0 is greedy. top_k 0, top_p 1 and min_p 0 switch a filter off.
    Without a seed, every request draws its own.

    Raises:
        RequestError: a value is outside its range.
    """

    temperature: float = TEMPERATURE
    top_p: float = TOP_P
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _require_real("temperature", self.temperature, 0, MAX_TEMPERATURE)
        _require_real("top_p", self.top_p, 0, 1)
        if self.top_p == 0:
            raise RequestError("top_p is 0; it must be above 0 and at most 1.")
        _require_real("min_p", self.min_p, 0, 1)
        _require_int("top_k", self.top_k, None)
        if self.seed is not None:
            _require_int("seed", self.seed, MAX_SEED)

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, as vLLM does for temperatures below 1e-5."""
        return self.temperature < _GREEDY_BELOW


def _require_real(name: str, value: float, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise RequestError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}.")


def _require_int(name: str, value: int, high: int | None) -> None:
    integer = isinstance(value, int) and not isinstance(value, bool)
    if not integer or value < 0 or (high is not None and value > high):
        bound = "0 or more" if high is None else f"from 0 to {high}"
        raise RequestError(f"{name} is {value!r}; it must be a whole number, {bound}.")
