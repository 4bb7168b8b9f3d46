"""Questions from a file: the user's JSONL, or the JSONL, CSV or Parquet of the Hub's data sets."""

import csv
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from magistral_mlx.errors import UserError
from magistral_mlx.evaluation.grading import LETTERS
from magistral_mlx.evaluation.question import Check, Question, QuestionSet
from magistral_mlx.spec import LANGUAGES

CHECKS: tuple[Check, ...] = get_args(Check)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a file with typed access; place: its file and number, for messages."""

    fields: Mapping[str, object]
    place: str

    def text(self, name: str) -> str:
        """A field without surrounding space. Raises UserError if it is missing."""
        value = self.optional_text(name)
        if value is None:
            known = ", ".join(self.fields) or "none"
            raise UserError(f"{self.place} has no {name}: its fields are {known}.")
        return value

    def optional_text(self, name: str) -> str | None:
        """The same; None if the field is missing or empty."""
        value = self.fields.get(name)
        if value is None or isinstance(value, bool | list | dict):
            return None
        return str(value).strip() or None


def local_questions(path: Path) -> QuestionSet:
    """Read lines `{"question": …, "answer": …}` with optional id, check, language and group.

    check is "mathematics" (the default), "letter" or "bold number". With choices, a list of four
    texts, the answer is "A" to "D" and check is "letter".

    Raises UserError if the file cannot be read or a line is not such a question.
    """
    rows = read_table(path)
    questions = tuple(_question(row, number) for number, row in enumerate(rows, start=1))
    ids = [question.id for question in questions]
    repeated = next((each for each in ids if ids.count(each) > 1), None)
    if repeated is not None:
        raise UserError(f"{path.name} has several questions with the id {repeated!r}: rename one.")
    return QuestionSet(path.stem, path.name, str(path), questions)


def _question(row: TableRow, number: int) -> Question:
    choices = row.fields.get("choices")
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


def _choices(row: TableRow, expected: str) -> list[str]:
    choices = row.fields["choices"]
    if not isinstance(choices, list) or len(choices) != 4:
        raise UserError(f"{row.place}: choices must be a list of four texts.")
    if expected not in tuple(LETTERS):
        raise UserError(f"{row.place}: answer is {expected!r}; with choices it is A, B, C or D.")
    return [str(choice) for choice in choices]


def _check(row: TableRow, *, default: Check) -> Check:
    wanted = row.optional_text("check") or default
    for check in CHECKS:
        if wanted == check:
            return check
    raise UserError(f"{row.place}: check is {wanted!r}; use one of {', '.join(CHECKS)}.")


def multiple_choice(question: str, choices: Sequence[str]) -> str:
    """The question, its lettered choices, and how to end the answer."""
    listed = "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, choices, strict=True))
    return (
        f"{question}\n\n{listed}\n\n"
        f"Exactly one choice is right. End your answer with a line “Answer: ” and its letter."
    )


def shuffled_choices(right: str, wrong: Sequence[str], *, seed: str) -> tuple[list[str], str]:
    """The choices in an order that depends only on the seed, and the letter of the right one."""
    order = list(range(len(wrong) + 1))
    random.Random(seed).shuffle(order)
    texts = [right, *wrong]
    return [texts[i] for i in order], LETTERS[order.index(0)]


def read_table(path: Path) -> list[TableRow]:
    """Read all rows of a .jsonl, .csv or .parquet file.

    Raises UserError if the file cannot be read or is of another kind.
    """
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise UserError(f"{path.name} is not one of {', '.join(readers)}: convert it to JSONL.")
    try:
        rows = readers[path.suffix](path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): choose a readable file."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error}): save it as UTF-8.") from error
    if not rows:
        raise UserError(f"{path} has no rows: choose a file with questions.")
    return [TableRow(row, f"{path.name}, row {number}") for number, row in enumerate(rows, start=1)]


def _read_jsonl(path: Path) -> list[Mapping[str, object]]:
    rows: list[Mapping[str, object]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"{path.name}, line {number} is not JSON ({error}): correct it."
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"{path.name}, line {number} is not a JSON object: write {{…}}.")
        rows.append(row)
    return rows


def _read_csv(path: Path) -> list[Mapping[str, object]]:
    # newline="": fields of GPQA span lines.
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _read_parquet(path: Path) -> list[Mapping[str, object]]:
    # Half the size of pyarrow, and without dependencies.
    import duckdb

    try:
        table = duckdb.read_parquet(str(path))
        names = table.columns
        return [dict(zip(names, values, strict=True)) for values in table.fetchall()]
    except duckdb.Error as error:
        raise UserError(
            f"{path.name} is not a readable Parquet file ({error}): download it again."
        ) from error
