"""Where questions come from: the Hub's files, files of one's own, the demo."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.errors import UserError
from magistral_mlx.evaluation.question_file import shuffled_choices
from magistral_mlx.evaluation.question_sets import open_question_set
from tests.evaluation.dataset_server import serve_datasets

ROOT = Path(__file__).parents[2]
AIME24 = (
    "HuggingFaceH4/aime_2024/2fe88a2f1091d5048c0f36abc874fb997b3dd99a/"
    "data/train-00000-of-00001.parquet"
)
AIME25 = "math-ai/aime25/563bb8404243c5f09de6ec262f2db674fe5bce9b/test.jsonl"
GPQA = "Idavidrein/gpqa/633f5ee89ab8ad4522a9f850766b73f62147ffdd/gpqa_diamond.csv"
SETS = ("aime24", "aime25", "gpqa-diamond")
# The Hub's client reads HF_ENDPOINT once, when it is imported: each server needs a new process.
OPEN_ALL = """
import json, sys
from dataclasses import asdict
from magistral_mlx.errors import UserError
from magistral_mlx.evaluation.question_sets import open_question_set
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = asdict(open_question_set(name))
    except UserError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


def open_in_a_new_process(
    endpoint: str, cache: Path, *, offline: bool = False
) -> dict[str, dict[str, object] | str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", OPEN_ALL, *SETS],
        cwd=ROOT,
        env=environment
        | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": str(int(offline))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, object] | str] = json.loads(done.stdout)
    return found


def parquet(folder: Path) -> bytes:
    """Two rows of the fields that the data set has."""
    file = folder / "aime.parquet"
    duckdb.sql(
        "COPY (SELECT * FROM (VALUES (60, 'Find $x$.', 'Because.', '204', 'u', '2024'),"
        " (61, 'Find $y$.', 'So.', '025', 'u', '2024'))"
        f" rows(id, problem, solution, answer, url, year)) TO '{file}' (FORMAT parquet)"
    )
    return file.read_bytes()


def gpqa_csv() -> bytes:
    """One row of the fields that are read, and one that is not; a field spans lines."""
    out = io.StringIO()
    names = ["Pre-Revision Question", "Question", "Correct Answer"]
    names += [f"Incorrect Answer {n}" for n in (1, 2, 3)] + ["Record ID", "High-level domain"]
    writer = csv.writer(out)
    writer.writerow(names)
    writer.writerow(["old", "Which one,\nsay?", "right ", "w1", "w2", "w3", "rec1", "Physics"])
    return out.getvalue().encode()


def test_the_published_sets_come_from_the_hub_at_their_revisions(tmp_path: Path) -> None:
    files = {
        AIME24: parquet(tmp_path),
        AIME25: b'{"problem": "Find z.", "answer": "70", "id": "0"}\n',
        GPQA: gpqa_csv(),
    }
    with serve_datasets(files) as endpoint:
        found = open_in_a_new_process(endpoint, tmp_path / "cache")
    questions = {name: each["questions"] for name, each in found.items() if isinstance(each, dict)}
    first = {name: each[0] for name, each in questions.items() if isinstance(each, list)}
    assert first["aime24"]["expected"] == "204"
    assert first["aime24"]["id"] == "60"
    assert first["aime24"]["text"].startswith("Find $x$.\n\n")
    assert (first["aime25"]["expected"], first["aime25"]["check"]) == ("70", "mathematics")
    letter = first["gpqa-diamond"]
    assert f"{letter['expected']}) right\n" in letter["text"]
    assert letter["text"].startswith("Which one,\nsay?\n\nA) ")
    assert (letter["check"], letter["group"]) == ("letter", "Physics")
    # Downloaded once: the second time there is no server.
    assert open_in_a_new_process("http://127.0.0.1:9", tmp_path / "cache") == found


def test_what_the_hub_refuses_is_one_clear_sentence(tmp_path: Path) -> None:
    refusals = {"Idavidrein/gpqa": "GatedRepo", "math-ai/aime25": "RevisionNotFound"}
    with serve_datasets({}, refusals=refusals) as endpoint:
        found = open_in_a_new_process(endpoint, tmp_path)
    assert found["gpqa-diamond"] == (
        "Idavidrein/gpqa is gated: accept its terms on its page on the Hub, and then log in with "
        "hf auth login or set HF_TOKEN."
    )
    assert "no longer has revision 563bb840" in str(found["aime25"])
    assert "HuggingFaceH4/aime_2024 has no data/train-00000" in str(found["aime24"])


def test_without_a_network_the_hub_cannot_be_reached(tmp_path: Path) -> None:
    # Offline on purpose: otherwise the Hub's client tries again for half a minute a file.
    found = open_in_a_new_process("http://127.0.0.1:9", tmp_path, offline=True)
    assert all("connect to the network" in str(found[name]) for name in SETS)


def test_a_changed_field_is_named(tmp_path: Path) -> None:
    with serve_datasets({AIME25: b'{"question": "Find z.", "answer": "70", "id": "0"}\n'}) as end:
        found = open_in_a_new_process(end, tmp_path)
    assert found["aime25"] == (
        "test.jsonl, row 1 has no problem: its fields are question, answer, id."
    )


def test_choices_are_shuffled_by_their_seed_and_every_letter_has_its_turn() -> None:
    orders = [shuffled_choices("r", ["1", "2", "3"], seed=str(n)) for n in range(200)]
    assert all(texts["ABCD".index(letter)] == "r" for texts, letter in orders)
    counts = [sum(letter == each for _, letter in orders) for each in "ABCD"]
    assert min(counts) > 30
    assert orders[7] == shuffled_choices("r", ["1", "2", "3"], seed="7")


def write(folder: Path, *rows: object) -> str:
    file = folder / "mine.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    return str(file)


def test_questions_of_ones_own_in_every_form(tmp_path: Path) -> None:
    rows = (
        {"question": "What is ½ + ½?", "answer": 1},
        {"id": "x", "question": "Which?", "answer": "B", "choices": ["p", "q", "r", "s"]},
        {"question": "¿2 + 2?", "answer": "4", "check": "bold number", "language": "es"},
    )
    opened = open_question_set(write(tmp_path, *rows))
    first, second, third = opened.questions
    assert (first.id, first.text, first.expected) == ("1", "What is ½ + ½?", "1")
    assert (second.id, second.check) == ("x", "letter")
    assert "\nB) q\n" in second.text
    assert (third.check, third.language) == ("bold number", "es")
    assert len(open_question_set(write(tmp_path, *rows), count=2).questions) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Why?"}, "row 1 has no answer"),
        ({"question": "Why?", "answer": "1", "check": "guess"}, "check is 'guess'"),
        ({"question": "Why?", "answer": "1", "language": "xx"}, "language is 'xx'"),
        ({"question": "Why?", "answer": "E", "choices": ["1", "2", "3", "4"]}, "answer is 'E'"),
        ({"question": "Why?", "answer": "A", "choices": ["1"]}, "four texts"),
        (["Why?"], "not a JSON object"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_question_set(write(tmp_path, row))


def test_repeated_ids_missing_files_and_too_many_questions_are_refused(tmp_path: Path) -> None:
    same = {"id": "a", "question": "Why?", "answer": "1"}
    with pytest.raises(UserError, match="several questions with the id 'a'"):
        open_question_set(write(tmp_path, same, same))
    with pytest.raises(UserError, match="There are no questions 'aime23': use demo, aime24"):
        open_question_set("aime23")
    with pytest.raises(UserError, match="has 1 questions"):
        open_question_set(write(tmp_path, same), count=2)


def test_the_digest_changes_with_what_is_asked_and_expected_alone(tmp_path: Path) -> None:
    row = {"question": "Why?", "answer": "1"}
    first, named, other = (
        open_question_set(write(tmp_path, row | change)).questions[0].digest
        for change in ({}, {"id": "b", "group": "g"}, {"answer": "2"})
    )
    assert first == named != other


def test_the_demo_asks_the_held_out_questions_of_its_readme() -> None:
    opened = open_question_set("demo", count=40)
    expected = [(q.text, str(q.result)) for q in held_out_questions(40)]
    assert [(q.text, q.expected) for q in opened.questions] == expected
    assert opened.temperature == 0


def test_a_question_that_stands_twice_is_asked_once(tmp_path: Path) -> None:
    rows = [{"question": "Why?", "answer": "1"}, {"question": "How?", "answer": "2"}] * 2
    opened = open_question_set(write(tmp_path, *rows))
    assert [question.text for question in opened.questions] == ["Why?", "How?"]
    demo = open_question_set("demo", count=500).questions
    assert len({question.digest for question in demo}) == 500
