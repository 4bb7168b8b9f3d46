"""The question sets by the names that the command line takes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.errors import UserError
from magistral_mlx.evaluation.hub_questions import aime24, aime25, gpqa_diamond
from magistral_mlx.evaluation.language_questions import language_questions
from magistral_mlx.evaluation.question import Question, QuestionSet
from magistral_mlx.evaluation.question_file import local_questions

DEMO = "demo"
DEMO_QUESTIONS = 64
"""All skills in all languages, in about two minutes on two cores."""


def open_question_set(name: str, *, count: int | None = None) -> QuestionSet:
    """The set of that name, or the questions of a JSONL file; count: only the first so many.

    What stands in it twice is asked once.

    Raises UserError when there is none, the Hub does not give it, or it has fewer questions.
    """
    if name == DEMO:
        return demo_questions(count or DEMO_QUESTIONS)
    sets: dict[str, Callable[[], QuestionSet]] = {
        "aime24": aime24,
        "aime25": aime25,
        "gpqa-diamond": gpqa_diamond,
        "languages": language_questions,
    }
    if name in sets:
        return _first(sets[name](), count)
    path = Path(name).expanduser()
    if not path.is_file():
        known = ", ".join([DEMO, *sets])
        raise UserError(f"There are no questions {name!r}: use {known}, or a JSONL file.")
    return _first(local_questions(path), count)


def demo_questions(count: int) -> QuestionSet:
    """The nano model's held-out arithmetic, greedy as in its README."""
    questions = [
        Question(
            id=str(number),
            text=question.text,
            expected=str(question.result),
            check="bold number",
            language=question.language,
            group=question.skill,
        )
        # Small numbers come again: of twice as many, enough differ.
        for number, question in enumerate(held_out_questions(2 * count), start=1)
    ]
    origin = "magistral_mlx/demo/questions.py, held out from training"
    made = QuestionSet(DEMO, "Held-out arithmetic", origin, tuple(questions), temperature=0.0)
    return _first(made, count)


def _first(questions: QuestionSet, count: int | None) -> QuestionSet:
    by_digest: dict[str, Question] = {}
    for question in questions.questions:
        by_digest.setdefault(question.digest, question)
    distinct = tuple(by_digest.values())
    if count is not None and count > len(distinct):
        raise UserError(
            f"{questions.title} has {len(distinct)} questions: ask for so many at most, not "
            f"{count}."
        )
    return replace(questions, questions=distinct[:count])
