"""A conversation's title, from its first question."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magistral_mlx.app.store.titles import MAX_TITLE, title_of


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("What is 12 + 30?", "What is 12 + 30?"),
        ("\n\n  # A **bold** [link](https://a.b) and `code`\nmore", "A bold link and code"),
        ("- [x] first *thing*", "first thing"),
        ("> 1. quoted", "1. quoted"),
        ("```python\nprint(1)\n```", "print(1)"),
        ("2 * 3 * 4 = ?", "2 * 3 * 4 = ?"),
        ("snake_case_name and 5*6*7", "snake_case_name and 5*6*7"),
        ("a\tb\x07c", "a b c"),
        ("---\n\n***", "nothing"),
        ("", "nothing"),
    ],
)
def test_the_title_is_the_first_line_without_markdown(question: str, title: str) -> None:
    assert title_of(question, fallback="nothing") == title


def test_a_long_line_is_cut_between_words() -> None:
    title = title_of("How many primes are there below one thousand, and what is their sum in all?")
    assert title == "How many primes are there below one thousand, and what is…"


@pytest.mark.parametrize("text", ["今天的天气很好我们去公园散步吧" * 4, "東京都の人口は" * 9])
def test_a_line_without_spaces_is_cut_at_the_width_of_the_list(text: str) -> None:
    title = title_of(text)
    assert text.startswith(title[:-1])
    assert title.endswith("…")
    assert len(title) == MAX_TITLE // 2


def test_arabic_is_cut_between_words() -> None:
    text = "احسب مجموع الأعداد من واحد إلى مئة ثم اطرح منه مجموع الأعداد الزوجية"
    title = title_of(text)
    assert title.endswith("…")
    assert set(title[:-1].split()) <= set(text.split())


@pytest.mark.parametrize(
    "repeated", ["[", "![", "[a](", "`", "**", "*a", "**a ", "`a``a", "- [", " "]
)
def test_a_long_hostile_question_gets_its_title_in_linear_time(repeated: str) -> None:
    begun = time.process_time()
    title_of(repeated * (2_000_000 // len(repeated)))
    assert time.process_time() - begun < 0.5


@given(st.text())
def test_any_text_gives_one_short_line(text: str) -> None:
    title = title_of(text, fallback="New")
    assert title
    assert len(title.splitlines()) == 1
    assert len(title_of("word " * 50 + text)) <= MAX_TITLE
