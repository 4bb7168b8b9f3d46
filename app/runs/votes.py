"""Parallel thinking: which of several answers the most chains agree on."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from magistral_mlx.app.runs.final_answer import final_answer, normalised


@dataclass(frozen=True, slots=True)
class Vote:
    """The majority of k answers.

    answer: the final answer as it was written by the first chain that gave it; None: no chain
        has one.
    winner: index of that chain; agree: indices of all that agree with it, rising.
    finals: the normalised final answer of each chain, None where there is none.
    """

    answer: str | None
    winner: int | None
    agree: tuple[int, ...]
    finals: tuple[str | None, ...]

    @property
    def count(self) -> int:
        """How many chains agree."""
        return len(self.agree)


def vote(answers: Sequence[str]) -> Vote:
    """Find the final answer of each text and the one most agree on; ties go to the earliest."""
    written = [final_answer(text) for text in answers]
    finals = _agreed([None if answer is None else normalised(answer) for answer in written])
    counts = Counter(final for final in finals if final)
    if not counts:
        return Vote(None, None, (), finals)
    most = max(counts.values())
    winner = next(i for i, final in enumerate(finals) if final and counts[final] == most)
    agree = tuple(i for i, final in enumerate(finals) if final == finals[winner])
    return Vote(written[winner], winner, agree, finals)


def _agreed(finals: Sequence[str | None]) -> tuple[str | None, ...]:
    """A decimal "1.234" is the German way to write 1234, so beside a 1234 it is one."""
    merged = []
    for final in finals:
        joined = re.sub(r"(?<![\d.])([1-9]\d{0,2})\.(\d{3})(?![\d.])", r"\1\2", final or "")
        merged.append(joined if joined in finals else final)
    return tuple(merged)
