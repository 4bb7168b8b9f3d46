"""Figures of a run, its report, and the language of its texts."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.evaluation.language_questions import language_questions
from magistral_mlx.evaluation.language_share import LanguageDetector, language_shares, words_of
from magistral_mlx.evaluation.question import QuestionSet
from magistral_mlx.evaluation.report import JSON_FILE, MARKDOWN_FILE, EvaluationReport
from magistral_mlx.evaluation.results import compute_results
from magistral_mlx.evaluation.results_view import PUBLISHED, results_view
from magistral_mlx.spec import LANGUAGES
from tests.evaluation.eval_samples import SETTINGS, make_question, make_sample

ROOT = Path(__file__).parents[2]
RIGHTS = json.loads((ROOT / "tests/data/human_rights.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def detector() -> LanguageDetector:
    return LanguageDetector()


def test_pass_at_1_pass_at_k_and_maj_at_k_of_a_whole_run() -> None:
    questions = [make_question("a", group="x"), make_question("b", group="y")]
    rights = {"a": (True, True, False, True), "b": (False, True, False, False)}
    samples = [make_sample(name, i, right=r) for name in rights for i, r in enumerate(rights[name])]
    results = compute_results(questions, samples, k=4)
    assert results.finished
    assert results.pass_at_1 is not None
    assert results.majority is not None
    assert results.pass_at_1.value == (0.75 + 0.25) / 2
    assert {k: each.value for k, each in results.pass_at.items()} == {2: (1 + 0.5) / 2, 4: 1}
    assert results.majority.value == 0.5
    assert {name: each.value for name, each in results.by_group.items()} == {"x": 0.75, "y": 0.25}


def test_an_unfinished_run_counts_what_is_there() -> None:
    questions = [make_question(name) for name in "abc"]
    samples = [
        make_sample("a", 0, right=True, tokens=10),
        make_sample("a", 1, right=False, tokens=30),
        make_sample("b", 0, right=True, tokens=20),
    ]
    results = compute_results(questions, samples, k=2)
    assert (results.done, results.wanted, results.begun, results.complete) == (3, 6, 2, 1)
    assert results.pass_at_1 is not None
    assert results.pass_at_1.value == 0.75
    assert results.pass_at[2].value == 1
    assert results.mean_tokens == 20
    assert not results.finished


def test_nothing_yet_has_no_estimates() -> None:
    results = compute_results([make_question("a")], [], k=3)
    assert (results.pass_at_1, results.pass_at, results.majority) == (None, {}, None)


def test_samples_of_other_questions_and_beyond_k_are_left_out() -> None:
    asked = make_question("a")
    samples = [
        make_sample("a", 0, right=True),
        make_sample("a", 1, right=False),
        make_sample("gone", 0, right=False),
    ]
    results = compute_results([asked], samples, k=1)
    assert (results.done, results.pass_at_1 and results.pass_at_1.value) == (1, 1)


def test_the_published_figures_are_those_of_the_demos_readme_and_of_the_model_card() -> None:
    readme = (ROOT / "magistral_mlx/demo/README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if line.startswith("| 4-bit weights"))
    stated = float(row.strip("| ").split("|")[-1])
    assert PUBLISHED["demo"][0].value == pytest.approx(stated / 100)
    small = {name: each[0].value for name, each in PUBLISHED.items() if name != "demo"}
    assert small == {"aime24": 0.7068, "aime25": 0.6276, "gpqa-diamond": 0.6818}


def make_report(folder: Path, *, right: int) -> EvaluationReport:
    questions = tuple(make_question(str(n), language="en") for n in range(10))
    samples = [make_sample(str(n), 0, right=n < right) for n in range(10)]
    report = EvaluationReport(
        command="magistral-mlx eval aime25",
        questions=QuestionSet("aime25", "AIME25", "math-ai/aime25 at 563b", questions),
        settings=SETTINGS,
        results=compute_results(questions, samples, k=1),
        languages=language_shares(questions, samples, LanguageDetector()),
    )
    report.write(folder)
    return report


def test_the_report_stands_beside_the_published_figures_in_both_forms(tmp_path: Path) -> None:
    make_report(tmp_path, right=7)
    page = (tmp_path / MARKDOWN_FILE).read_text(encoding="utf-8")
    assert "| **pass@1** | 70.0 | 39.7–89.2 | Wilson | 10 |" in page
    assert "| Magistral Small, published | 62.8 | inside |  |  |" in page
    assert "    magistral-mlx eval aime25\n" in page
    data = json.loads((tmp_path / JSON_FILE).read_text(encoding="utf-8"))
    assert data["results"]["pass_at_1"]["value"] == 0.7
    assert data["published"][0]["value"] == 0.6276
    assert data["settings"]["kv_bits"] == 16
    assert data["versions"]["mlx"]


@pytest.mark.parametrize(("right", "place"), [(0, "above"), (10, "below")])
def test_a_published_figure_outside_the_interval_is_called_so(
    tmp_path: Path, right: int, place: str
) -> None:
    report = make_report(tmp_path, right=right)
    assert f"| Magistral Small, published | 62.8 | {place} |" in report.markdown()
    console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
    console.print(results_view(report.questions, report.results, model="m"))
    assert place in console.export_text()


def test_every_language_of_the_card_is_told_from_the_others(detector: LanguageDetector) -> None:
    found = {code: detector.detect(text) for code, text in RIGHTS.items()}
    wrong = {code for code in LANGUAGES if found[code] != code}
    # One sentence does not always tell Indonesian from Malay.
    assert wrong <= {"id", "ms"}
    assert {found["id"], found["ms"]} <= {"id", "ms"}


def test_serbian_is_known_in_latin_letters_too_and_nothing_beside_the_25(
    detector: LanguageDetector,
) -> None:
    assert detector.detect("Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu.") == "sr"
    # Norwegian is not among the 25: Swedish is the nearest.
    assert detector.detect("Alle mennesker er født frie og med samme menneskeverd.") in LANGUAGES


def test_the_questions_in_25_languages_are_in_their_languages(detector: LanguageDetector) -> None:
    questions = language_questions().questions
    assert len(questions) == 100
    assert {question.language for question in questions} == set(LANGUAGES)
    wrong = [q.id for q in questions if detector.detect(q.text) != q.language]
    assert len(wrong) <= 2
    assert {name[:2] for name in wrong} <= {"id", "ms"}


def test_the_demos_texts_are_told_apart_reasoning_and_answer(detector: LanguageDetector) -> None:
    questions = held_out_questions(80)
    for part in ("reasoning", "answer"):
        texts = [(q.language, detector.detect(getattr(q, part))) for q in questions]
        right = [language == found for language, found in texts if found is not None]
        assert sum(right) / len(right) > 0.95
        assert len(right) > 70


def test_code_formulas_and_numbers_are_no_words() -> None:
    text = "Also $x = \\frac{1}{2}$, `print(x)`:\n```python\nreturn None\n```\nund **42**."
    assert words_of(text) == "Also und"


@pytest.mark.parametrize("text", ["", "42", "$x = 3$", "Ja."])
def test_too_few_words_say_nothing(detector: LanguageDetector, text: str) -> None:
    assert detector.detect(text) is None


def test_shares_by_language_count_reasoning_and_answer_apart(detector: LanguageDetector) -> None:
    questions = [make_question("a", language="de"), make_question("b", language="fr")]
    german, french = RIGHTS["de"], RIGHTS["fr"]
    samples = [
        make_sample("a", 0, right=True, reasoning=RIGHTS["en"], answer=german),
        make_sample("a", 1, right=True, reasoning=german, answer="42"),
        make_sample("b", 0, right=True, reasoning=french, answer=french),
    ]
    rows = {row.language: row for row in language_shares(questions, samples, detector)}
    assert list(rows) == ["de", "fr", "all"]
    de = rows["de"]
    assert de.reasoning.share is not None
    assert de.answer.share is not None
    assert (de.reasoning.share.value, de.reasoning.counted) == (0.5, 2)
    assert de.reasoning.others == {"en": 1}
    assert (de.answer.share.value, de.answer.counted, de.answer.short) == (1, 1, 1)
    assert rows["all"].reasoning.share is not None
    assert rows["all"].reasoning.share.value == 0.75


def test_questions_without_a_language_have_no_shares(detector: LanguageDetector) -> None:
    samples = [make_sample("a", 0, right=True, answer=RIGHTS["de"])]
    assert language_shares([make_question("a")], samples, detector) == []
