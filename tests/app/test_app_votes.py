"""Parallel thinking: what counts as a final answer, and which one wins."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magistral_mlx.app.runs.votes import final_answer, normalised, vote


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So \\boxed{1} at first, and then \\boxed{\\frac{3}{4}}.", "\\frac{3}{4}"),
        ("Cut off: **7** and \\boxed{4", "7"),
        ("We get 5.\n\n**Answer:** 42. That is it.", "42"),
        ("The final answer is 17.\nThank **you**", "17."),
        ("La réponse est 12.", "12."),
        ("因此答案是 **42**。", "42。"),
        ("答え：７５", "７５"),
        ("الجواب هو ٤٢", "٤٢"),
        ("Das Ergebnis von 12 + 30 ist **42**.", "42"),
        ("The **sum** of both is **132**.", "132"),
        ("First 12, then 30.\nIn all 1,042 apples are left.", "1,042"),
        ("The answer to this question is hard.\nYes", "Yes"),
        ("   \n", None),
        ("A long last line without any number in it, which nobody could call final.", None),
    ],
)
def test_the_final_answer_is_found(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


@pytest.mark.parametrize(
    "same",
    [
        ("1234", "1,234", "1 234", "1\u202f234", "1'234", "**1234**.", "$1{,}234$", "+1234.0"),
        ("1234.5", "1,234.50", "1.234,5", "1 234,5"),
        ("1234567", "1.234.567", "1,234,567", "12,34,567"),
        ("-3", "−3", "\\(-3\\)", "x = -3"),
        ("3/4", "\\frac{3}{4}", "\\dfrac{3}{4}"),
        ("0.125", "0,125", "0.1250"),
        ("42", "٤٢", "۴۲", "४२", "42。", "\\boxed{42}"),
        ("30%", "30 %", "30\\%"),
        ("12 km", "12 KM", "\\(12\\ \\text{km}\\)".replace("\\ ", " ")),
        ("paris", "Paris.", "\\text{Paris}"),
    ],
)
def test_answers_that_mean_the_same_are_the_same_string(same: tuple[str, ...]) -> None:
    assert {normalised(answer) for answer in same} == {same[0]}


def test_different_answers_stay_different() -> None:
    answers = ["12", "120", "1.2", "-12", "12 km", "12 m", "(1, 2)", "12%", "1/2", "12 30"]
    assert len({normalised(answer) for answer in answers}) == len(answers)


def test_the_majority_wins_and_is_shown_as_its_first_chain_wrote_it() -> None:
    result = vote(
        [
            "**41**",
            "It is **1,234**.",
            "**1234**",
            "No answer, only words that go on and on without an end.",
        ]
    )
    assert (result.winner, result.agree) == (1, (1, 2))
    assert result.finals == ("41", "1234", "1234", None)


def test_a_tie_goes_to_the_earliest() -> None:
    assert vote(["**2**", "**1**", "**1**", "**2**"]).winner == 0


def test_nothing_to_vote_about_has_no_winner() -> None:
    assert vote([]).winner is None
    assert vote(["", " "]).agree == ()


def test_a_german_thousand_agrees_with_the_plain_number_beside_it() -> None:
    assert vote(["**1.234**", "**1234**"]).agree == (0, 1)
    assert vote(["**1.234**", "**1.2**"]).finals[0] == "1.234"


@given(st.integers(-(10**12), 10**12), st.sampled_from([",", " ", "'", "\u202f"]))
def test_any_number_written_with_separators_is_the_plain_number(
    number: int, separator: str
) -> None:
    written = f"{number:,}".replace(",", separator)
    assert normalised(written) == str(number)
    assert normalised(f"**{written}**.") == str(number)


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_the_winner_has_the_highest_count_and_stands_first(numbers: list[int]) -> None:
    result = vote([f"The result is **{n}**." for n in numbers])
    best = max(numbers, key=lambda n: (numbers.count(n), -numbers.index(n)))
    assert result.winner == numbers.index(best)
    assert result.agree == tuple(i for i, n in enumerate(numbers) if n == best)


@pytest.mark.parametrize(
    "repeated",
    [
        *(
            "**a ",
            "__a **b ",
            "** ",
            "**",
            "1,23,",
            "1,23,23",
            "1,234,",
            "1.234,",
            "answer ",
            "答案 ",
        ),
        *(
            "answer is ",
            " ",
            "\u3000%",
            "\\text{",
            "\\text ",
            "\\frac{1}",
            "\\boxed{",
            "=",
            "{",
            "$",
        ),
        *("1 ", "-", "1", "1.", "answer:\n", "1,23,23,23,2345"),
    ],
)
def test_a_vote_on_hostile_texts_takes_linear_time(repeated: str) -> None:
    for start, end in (("", ""), ("\\boxed{", "}"), ("answer: ", "x"), ("1", " ")):
        text = start + repeated * (150_000 // len(repeated)) + end
        begun = time.process_time()
        vote([text, "**1**"])
        assert time.process_time() - begun < 2


@given(st.text(max_size=400))
def test_no_text_breaks_the_search(text: str) -> None:
    vote([text, text])
