"""Endless loops: an output that only repeats its last tokens."""

from collections.abc import Sequence

import numpy as np

LONGEST_PERIOD = 512
"""Tokens of the longest loop that is detected."""

REPEATS = 6
LEAST_TOKENS = 512
"""A loop has at least these repeats and tokens: a table rule, a row of zeros, a chorus is none."""

EVERY = 64
"""Tokens between two checks."""


def is_looping(tokens: Sequence[int], *, start: int) -> bool:
    """Whether the tokens from `start` on end in a loop.

    Call it after every token: it checks every 64th length.
    """
    length = len(tokens) - start
    if length % EVERY or length < LEAST_TOKENS:
        return False
    tail = np.array(tokens[max(start, len(tokens) - (REPEATS + 1) * LONGEST_PERIOD) :])
    return any(_repeats(tail, period) for period in _periods(tail))


def _periods(tail: "np.ndarray[tuple[int], np.dtype[np.int_]]") -> list[int]:
    """Distances back to earlier occurrences of the last token."""
    before = tail[-LONGEST_PERIOD - 1 : -1][::-1]
    return [int(index) + 1 for index in np.flatnonzero(before == tail[-1])]


def _repeats(tail: "np.ndarray[tuple[int], np.dtype[np.int_]]", period: int) -> bool:
    span = max(REPEATS * period, LEAST_TOKENS)
    return len(tail) >= span and bool((tail[period - span :] == tail[-span:-period]).all())
