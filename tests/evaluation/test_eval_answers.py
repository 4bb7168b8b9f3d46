"""Grading: mathematics, letters, numbers in bold."""

import pytest

from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.evaluation.grading import Grade, grade
from magistral_mlx.evaluation.question import Check, Question


def graded(check: Check, expected: str, answer: str) -> Grade:
    return grade(Question("1", "?", expected, check), answer)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ("204", "We find m + n = 204.\n\nAnswer: 204"),
        ("204", "The walk takes 3 hours.\n\n**Answer:** 204"),
        ("204", "**Answer: 204**"),
        ("204", "Answer: $204$."),
        ("204", "The walk takes **204** minutes, which is more than 3 hours."),
        ("204", "So $n = 204$."),
        ("204", "It is $\\boxed{204}$."),
        ("025", "Answer: 25"),
        ("\\frac{1}{2}", "Answer: 0.5"),
        ("\\frac{1}{2}", "Answer: $\\dfrac{2}{4}$"),
        ("x^2+2x+1", "Answer: $(x+1)^2$"),
        ("70", "Answer: 70\n\nThat is 2 more than 68."),
        ("204", "Answer: 100\n\nNo, that is too small.\n\nAnswer: 204"),
        ("204", "Not **100** but **204**."),
        ("52", "Réponse : il faut **52** caisses."),
    ],
)
def test_mathematics_is_compared_as_expressions_wherever_it_is_stated(
    expected: str, answer: str
) -> None:
    assert graded("mathematics", expected, answer).right


@pytest.mark.parametrize(
    "answer", ["Answer: 205", "Answer: 204.5", "204 is wrong.\n\nAnswer: 24", "I do not know."]
)
def test_another_value_is_wrong(answer: str) -> None:
    assert not graded("mathematics", "204", answer).right


def test_equal_values_share_one_form_to_vote_with() -> None:
    forms = {graded("mathematics", "204", text).extracted for text in ("Answer: 204", "**204**")}
    assert len(forms) == 1
    assert graded("mathematics", "204", "").extracted is None


@pytest.mark.parametrize(
    "answer",
    [
        "Answer: B",
        "**Answer: B**",
        "**Answer:** B",
        "Answer: **B**",
        "Answer: (B)",
        "Answer: $\\boxed{\\text{B}}$",
        "Answer: $B$",
        "Choice A fails, and C and D too.\n\nThe correct answer is (B).",
        "The correct option is **B) 42 K**.",
        "It must be **B**.",
        "\\boxed{B}",
        "A is too large.\n\nB",
        "Answer: A would be wrong.\n\nAnswer: B",
        "The final answer is: B. A rise in pressure explains it.",
    ],
)
def test_the_letter_that_is_chosen_counts(answer: str) -> None:
    assert graded("letter", "B", answer) == Grade("B", right=True)


@pytest.mark.parametrize(
    "answer", ["", "A catalyst lowers the barrier.", "The answer is Boron.", "A) 1\nB) 2\nC) 3"]
)
def test_a_letter_that_is_only_a_word_or_a_list_counts_for_nothing(answer: str) -> None:
    assert graded("letter", "B", answer).extracted is None


def test_another_letter_is_wrong() -> None:
    assert graded("letter", "B", "Answer: D") == Grade("D", right=False)


def test_the_demos_answers_are_right_in_every_language_and_skill() -> None:
    for question in held_out_questions(80):
        found = graded("bold number", str(question.result), question.answer)
        assert found == Grade(str(question.result), right=True)


@pytest.mark.parametrize(
    ("answer", "extracted"),
    [
        ("It is **1,204**.", "1204"),
        ("C'est **1 204 pommes**.", "1204"),
        ("Das sind **1.204** Äpfel.", "1204"),
        ("**12 + 30 = 42**", "42"),
        ("**The sum is\n42**", "42"),
        ("**−5**", "-5"),
        ("النتيجة **٤٢**", "42"),
        ("It is 42.", None),
        ("**many**", None),
    ],
)
def test_a_number_in_bold_may_be_written_as_its_language_does(
    answer: str, extracted: str | None
) -> None:
    assert graded("bold number", "0", answer).extracted == extracted
