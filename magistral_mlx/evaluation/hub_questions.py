"""The published benchmarks, from the Hub, each at a revision that does not change."""

from magistral_mlx.evaluation.hub_file import hub_file
from magistral_mlx.evaluation.question import Question, QuestionSet
from magistral_mlx.evaluation.question_file import multiple_choice, shuffled_choices
from magistral_mlx.evaluation.table_file import Fields, read_table

STATE_THE_ANSWER = "End your answer with a line “Answer: ” and the number alone."
"""The model card's system prompt forbids the box that other models put their answers in."""


def aime24() -> QuestionSet:
    """The 30 problems of AIME 2024, I and II. Raises UserError as `hub_file` does."""
    repository, revision = "HuggingFaceH4/aime_2024", "2fe88a2f1091d5048c0f36abc874fb997b3dd99a"
    rows = _rows(repository, "data/train-00000-of-00001.parquet", revision)
    questions = tuple(_mathematics(row) for row in rows)
    return QuestionSet("aime24", "AIME24", _origin(repository, revision), questions, samples=4)


def aime25() -> QuestionSet:
    """The 30 problems of AIME 2025, I and II. Raises UserError as `hub_file` does."""
    repository, revision = "math-ai/aime25", "563bb8404243c5f09de6ec262f2db674fe5bce9b"
    questions = tuple(_mathematics(row) for row in _rows(repository, "test.jsonl", revision))
    return QuestionSet("aime25", "AIME25", _origin(repository, revision), questions, samples=4)


def gpqa_diamond() -> QuestionSet:
    """The 198 questions of GPQA Diamond, a gated data set. Raises UserError as `hub_file` does."""
    repository, revision = "Idavidrein/gpqa", "633f5ee89ab8ad4522a9f850766b73f62147ffdd"
    rows = _rows(repository, "gpqa_diamond.csv", revision)
    questions = tuple(_letter(row) for row in rows)
    return QuestionSet("gpqa-diamond", "GPQA Diamond", _origin(repository, revision), questions)


def _rows(repository: str, file: str, revision: str) -> list[Fields]:
    return read_table(hub_file(repository, file, revision=revision))


def _origin(repository: str, revision: str) -> str:
    return f"{repository} at {revision}"


def _mathematics(row: Fields) -> Question:
    return Question(
        id=row.text("id"),
        text=f"{row.text('problem')}\n\n{STATE_THE_ANSWER}",
        expected=row.text("answer"),
        check="mathematics",
        language="en",
    )


def _letter(row: Fields) -> Question:
    id = row.text("Record ID")
    wrong = [row.text(f"Incorrect Answer {number}") for number in (1, 2, 3)]
    choices, letter = shuffled_choices(row.text("Correct Answer"), wrong, seed=id)
    return Question(
        id=id,
        text=multiple_choice(row.text("Question"), choices),
        expected=letter,
        check="letter",
        language="en",
        group=row.optional_text("High-level domain"),
    )
