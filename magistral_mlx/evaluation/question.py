"""Questions with their known answers, and the sets that they come in."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

Check = Literal["mathematics", "letter", "bold number"]
"""How an answer is compared with the expected one: see answers.py."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the model is asked, word by word, and what it should come to.

    language: the code of the question's language (spec.LANGUAGES), where it is known.
    group: what kind of question it is, for figures by kind.
    """

    id: str
    text: str
    expected: str
    check: Check
    language: str | None = None
    group: str | None = None

    @property
    def digest(self) -> str:
        """16 hex digits that change with what is asked or expected, and with nothing else."""
        content = "\0".join((self.text, self.expected, self.check))
        return sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions that are asked together.

    title: what reports call it; origin: where the questions come from, revision included.
    samples: of each question, when the user does not say; temperature likewise, where this set's
        stated figure was not measured with the model card's.
    """

    name: str
    title: str
    origin: str
    questions: tuple[Question, ...]
    samples: int = 1
    temperature: float | None = None
