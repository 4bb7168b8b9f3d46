"""Two small word problems in each of the model card's 25 languages, with two sets of numbers."""

import json
from importlib.resources import files

from magistral_mlx.evaluation.question import Question, QuestionSet

NUMBERS = (
    # apples, sold, a box; kilometres, hours, more hours
    ((94, 38, 8), (180, 3, 5)),
    ((75, 33, 6), (252, 4, 7)),
)


def language_questions() -> QuestionSet:
    """100 questions; reasoning and answer should be in the language of the question."""
    source = files("magistral_mlx.evaluation").joinpath("language_questions.json")
    texts: dict[str, dict[str, str]] = json.loads(source.read_text(encoding="utf-8"))
    questions = [
        question
        for (apples, sold, box), (distance, hours, more) in NUMBERS
        for language, text in texts.items()
        for question in (
            _question(
                f"{language}-boxes-{apples}",
                language,
                text["boxes"].format(apples=apples, sold=sold, box=box),
                (apples - sold) // box,
            ),
            _question(
                f"{language}-journey-{distance}",
                language,
                text["journey"].format(distance=distance, hours=hours, more=more),
                distance * more // hours,
            ),
        )
    ]
    origin = "written for magistral-mlx"
    return QuestionSet("languages", "25 languages", origin, tuple(questions))


def _question(id: str, language: str, text: str, expected: int) -> Question:
    return Question(id, text, str(expected), "mathematics", language=language, group=language)
