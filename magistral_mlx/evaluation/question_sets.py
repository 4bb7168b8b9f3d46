"""The question sets by name: the demo's, the published benchmarks, languages, and files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from magistral_mlx.convert import DEMO
from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.errors import UserError
from magistral_mlx.evaluation.language_questions import language_questions
from magistral_mlx.evaluation.question import Question, QuestionSet
from magistral_mlx.evaluation.question_file import (
    TableRow,
    local_questions,
    multiple_choice,
    read_table,
    shuffled_choices,
)

DEMO_QUESTIONS = 64
"""All skills in all languages, in about two minutes on two cores."""

STATE_THE_ANSWER = "End your answer with a line “Answer: ” and the number alone."
"""The model card's system prompt forbids \\boxed, in which other models put their answers."""

# The first kind that fits: a gated repository is also one that is not found.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (
        GatedRepoError,
        "{repository} is gated: accept its terms on its page on the Hub, and then log in with "
        "hf auth login or set HF_TOKEN.",
    ),
    (
        RevisionNotFoundError,
        "{repository} no longer has revision {revision}: give the questions as a JSONL file.",
    ),
    (
        RepositoryNotFoundError,
        "{repository} is not on the Hub, or you have no access: set HF_TOKEN, or give the "
        "questions as a JSONL file.",
    ),
    (
        LocalEntryNotFoundError,
        "{file} of {repository} is not in the Hub's cache, and the Hub cannot be reached: connect "
        "to the network for the first run.",
    ),
    (
        EntryNotFoundError,
        "{repository} has no {file} at revision {revision}: give the questions as a JSONL file.",
    ),
    (Exception, "{file} of {repository} could not be downloaded ({error}): try again later."),
)


def open_question_set(name: str, *, count: int | None = None) -> QuestionSet:
    """The set of this name, or the questions of a JSONL file; count: only the first ones.

    Duplicate questions are asked once. Raises UserError if there is no such set, the Hub refuses
    it, or it has fewer questions than count.
    """
    if name == DEMO:
        return _demo(count or DEMO_QUESTIONS)
    sets: dict[str, Callable[[], QuestionSet]] = {
        "aime24": _aime24,
        "aime25": _aime25,
        "gpqa-diamond": _gpqa_diamond,
        "languages": language_questions,
    }
    if name in sets:
        return _first(sets[name](), count)
    path = Path(name).expanduser()
    if not path.is_file():
        known = ", ".join([DEMO, *sets])
        raise UserError(f"There are no questions {name!r}: use {known}, or a JSONL file.")
    return _first(local_questions(path), count)


def _first(questions: QuestionSet, count: int | None) -> QuestionSet:
    by_digest: dict[str, Question] = {}
    for question in questions.questions:
        by_digest.setdefault(question.digest, question)
    distinct = tuple(by_digest.values())
    if count is not None and count > len(distinct):
        raise UserError(
            f"{questions.title} has {len(distinct)} questions: --questions {count} is too many."
        )
    return replace(questions, questions=distinct[:count])


def _demo(count: int) -> QuestionSet:
    """The demo model's held-out arithmetic, greedy as in its README."""
    questions = [
        Question(
            id=str(number),
            text=question.text,
            expected=str(question.result),
            check="bold number",
            language=question.language,
            group=question.skill,
        )
        # Small numbers repeat: draw twice as many to have enough that differ.
        for number, question in enumerate(held_out_questions(2 * count), start=1)
    ]
    origin = "magistral_mlx/demo/questions.py, held out from training"
    made = QuestionSet(DEMO, "Held-out arithmetic", origin, tuple(questions), temperature=0.0)
    return _first(made, count)


def _aime24() -> QuestionSet:
    """The 30 problems of AIME 2024, I and II."""
    repository, revision = "HuggingFaceH4/aime_2024", "2fe88a2f1091d5048c0f36abc874fb997b3dd99a"
    rows = _rows(repository, "data/train-00000-of-00001.parquet", revision)
    questions = tuple(_mathematics(row) for row in rows)
    return QuestionSet("aime24", "AIME24", f"{repository} at {revision}", questions, samples=4)


def _aime25() -> QuestionSet:
    """The 30 problems of AIME 2025, I and II."""
    repository, revision = "math-ai/aime25", "563bb8404243c5f09de6ec262f2db674fe5bce9b"
    questions = tuple(_mathematics(row) for row in _rows(repository, "test.jsonl", revision))
    return QuestionSet("aime25", "AIME25", f"{repository} at {revision}", questions, samples=4)


def _gpqa_diamond() -> QuestionSet:
    """The 198 questions of GPQA Diamond, a gated data set."""
    repository, revision = "Idavidrein/gpqa", "633f5ee89ab8ad4522a9f850766b73f62147ffdd"
    questions = tuple(_letter(row) for row in _rows(repository, "gpqa_diamond.csv", revision))
    return QuestionSet("gpqa-diamond", "GPQA Diamond", f"{repository} at {revision}", questions)


def _mathematics(row: TableRow) -> Question:
    return Question(
        id=row.text("id"),
        text=f"{row.text('problem')}\n\n{STATE_THE_ANSWER}",
        expected=row.text("answer"),
        check="mathematics",
        language="en",
    )


def _letter(row: TableRow) -> Question:
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


def _rows(repository: str, file: str, revision: str) -> list[TableRow]:
    """The rows of a data set's file, downloaded once into the Hub's cache.

    HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE apply. Raises UserError if the Hub refuses the file
    or cannot be reached.
    """
    try:
        path = hf_hub_download(repository, file, repo_type="dataset", revision=revision)
    except (HfHubHTTPError, EntryNotFoundError, httpx.HTTPError, OSError) as error:
        reason = next(text for kind, text in _REASONS if isinstance(error, kind))
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            reason.format(repository=repository, file=file, revision=revision[:8], error=first_line)
        ) from error
    return read_table(Path(path))
