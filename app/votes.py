"""Parallel thinking: which of several answers the most chains agree on."""

from collections.abc import Sequence
from dataclasses import dataclass


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
    raise NotImplementedError


def final_answer(text: str) -> str | None:
    """The final answer as it is written: \\boxed{}, "Answer: …", the last bold span, or number."""
    raise NotImplementedError


def normalised(answer: str) -> str:
    """The answer in a form in which equal answers are equal strings."""
    raise NotImplementedError
