"""Questions with known answers, and sets of them."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

Check = Literal["mathematics", "letter", "bold number"]
"""How an answer is graded: see grading.py."""


@dataclass(frozen=True, slots=True)
class Question:
    """The text that the model gets, and the expected result.

    language: the code of the question's language (spec.LANGUAGES), if known.
    group: the kind of question, for figures by kind.
    """

    id: str
    text: str
    expected: str
    check: Check
    language: str | None = None
    group: str | None = None

    @property
    def digest(self) -> str:
        """16 hex digits of the text, the expected result and the check, and of nothing else."""
        content = "\0".join((self.text, self.expected, self.check))
        return sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions that one run asks.

    title: its name in reports; origin: where the questions come from, with the revision.
    samples: default number of samples of each question.
    temperature: default for one sample of each; None: the model card's.
    """

    name: str
    title: str
    origin: str
    questions: tuple[Question, ...]
    samples: int = 1
    temperature: float | None = None
