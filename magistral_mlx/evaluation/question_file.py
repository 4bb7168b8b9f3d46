"""Questions of one's own, from a JSONL file."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from magistral_mlx.errors import UserError
from magistral_mlx.evaluation.grading import LETTERS
from magistral_mlx.evaluation.question import Check, Question, QuestionSet
from magistral_mlx.evaluation.table_file import Fields, read_table
from magistral_mlx.spec import LANGUAGES

CHECKS: tuple[Check, ...] = get_args(Check)


def local_questions(path: Path) -> QuestionSet:
    """Read `{"question": …, "answer": …}` lines, with id, check, language, group where given.

    check is "mathematics" (the default), "letter" or "bold number". With choices, a list of four
    texts, the answer is one of "A" to "D" and check is "letter".

    Raises UserError when the file cannot be read or a line is not such a question.
    """
    rows = read_table(path)
    questions = tuple(_question(row, number) for number, row in enumerate(rows, start=1))
    ids = [question.id for question in questions]
    repeated = next((each for each in ids if ids.count(each) > 1), None)
    if repeated is not None:
        raise UserError(f"{path.name} has several questions with the id {repeated!r}: rename one.")
    return QuestionSet(path.stem, path.name, str(path), questions)


def _question(row: Fields, number: int) -> Question:
    choices = row.row.get("choices")
    text, expected = row.text("question"), row.text("answer")
    language = row.optional_text("language")
    if language is not None and language not in LANGUAGES:
        raise UserError(
            f"{row.place}: language is {language!r}; use one of {', '.join(LANGUAGES)}."
        )
    return Question(
        id=row.optional_text("id") or str(number),
        text=text if choices is None else multiple_choice(text, _choices(row, expected)),
        expected=expected,
        check=_check(row, default="mathematics" if choices is None else "letter"),
        language=language,
        group=row.optional_text("group"),
    )


def _choices(row: Fields, expected: str) -> list[str]:
    choices = row.row["choices"]
    if not isinstance(choices, list) or len(choices) != 4:
        raise UserError(f"{row.place}: choices must be a list of four texts.")
    if expected not in ("A", "B", "C", "D"):
        raise UserError(f"{row.place}: answer is {expected!r}; with choices it is A, B, C or D.")
    return [str(choice) for choice in choices]


def _check(row: Fields, *, default: Check) -> Check:
    wanted = row.optional_text("check") or default
    for check in CHECKS:
        if wanted == check:
            return check
    raise UserError(f"{row.place}: check is {wanted!r}; use one of {', '.join(CHECKS)}.")


def multiple_choice(question: str, choices: Sequence[str]) -> str:
    """The question, its choices by letter, and the form that the answer is to end in."""
    listed = "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, choices, strict=True))
    return (
        f"{question}\n\n{listed}\n\n"
        f"Exactly one choice is right. End your answer with a line “Answer: ” and its letter."
    )


def shuffled_choices(right: str, wrong: Sequence[str], *, seed: str) -> tuple[list[str], str]:
    """The choices in an order that hangs on the seed alone, and the letter of the right one."""
    order = list(range(len(wrong) + 1))
    random.Random(seed).shuffle(order)
    texts = [right, *wrong]
    return [texts[i] for i in order], LETTERS[order.index(0)]
