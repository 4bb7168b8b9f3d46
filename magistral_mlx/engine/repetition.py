"""Endless loops: an output that only repeats its last tokens."""

from collections.abc import Sequence

import numpy as np

LONGEST_PERIOD = 512
"""Tokens of the longest loop that is recognised."""

REPEATS = 6
LEAST_TOKENS = 512
"""A loop counts when it has gone round this often and is this long: a table's rule, a row of
zeros or a chorus is no loop."""

EVERY = 64
"""Tokens between two looks."""


def is_looping(tokens: Sequence[int], *, start: int) -> bool:
    """Whether the tokens from `start` on end with the same ones over and over.

    It looks only at every 64th length, so call it after every token.
    """
    length = len(tokens) - start
    if length % EVERY or length < LEAST_TOKENS:
        return False
    tail = np.array(tokens[max(start, len(tokens) - (REPEATS + 1) * LONGEST_PERIOD) :])
    return any(_repeats(tail, period) for period in _periods(tail))


def _periods(tail: "np.ndarray[tuple[int], np.dtype[np.int_]]") -> list[int]:
    """Distances at which the last token occurred before."""
    before = tail[-LONGEST_PERIOD - 1 : -1][::-1]
    return [int(index) + 1 for index in np.flatnonzero(before == tail[-1])]


def _repeats(tail: "np.ndarray[tuple[int], np.dtype[np.int_]]", period: int) -> bool:
    span = max(REPEATS * period, LEAST_TOKENS)
    return len(tail) >= span and bool((tail[period - span :] == tail[-span:-period]).all())
