"""A text that grows gives the same blocks as the whole one, however it comes in pieces."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistral_mlx.app.rendering.growing_text import GrowingText, with_ends
from magistral_mlx.app.rendering.markdown import MarkdownRenderer

RENDERER = MarkdownRenderer()
LINES = [
    *("# Title", "A line with $x^2$", "  c", "", "", "- a", "1. one", "> quoted", "```python"),
    *("x = 1", "```", "    indented", "| a | b |", "|---|---|", "| 1 | 2 |", "---", "===", "$$"),
    *("a=b", "\\[ x \\]", "\\begin{align}", "\\end{align}", "#tag", "**bold", "text**"),
]


def whole(text: str) -> list[str]:
    return [block.html for block in RENDERER.blocks(text)]


@given(st.lists(st.sampled_from(LINES), max_size=25).map("\n".join), st.data())
@settings(deadline=None, max_examples=300)
def test_pieces_give_what_the_whole_text_gives(text: str, data: st.DataObject) -> None:
    growing, shown = GrowingText(RENDERER), list[str]()
    seen = version = at = 0
    while at < len(text):
        at = min(len(text), at + data.draw(st.integers(1, 12)))
        version += 1
        growing.update(text[:at], version)
        if data.draw(st.booleans()):
            patch = growing.since(seen)
            shown[patch.start :] = patch.blocks
            seen = version
            # What the last line has opened is closed in the last block, for the time being.
            plain = whole(text[:at])
            assert shown[: len(plain) - 1] == plain[:-1]
    growing.finish(text, version + 1)
    patch = growing.since(seen)
    shown[patch.start :] = patch.blocks
    assert shown == whole(text)


def test_only_the_end_is_sent_again() -> None:
    growing = GrowingText(RENDERER)
    growing.update("one\n\ntwo\n\nthree", 1)
    growing.update("one\n\ntwo\n\nthree and more", 2)
    assert growing.since(1).start == 2
    assert growing.since(1).blocks == ('<p dir="auto">three and more</p>',)
    assert growing.since(2).blocks == ()


def test_the_end_brings_links_that_were_defined_last() -> None:
    growing = GrowingText(RENDERER)
    text = "see [a]\n\ntwo\n\nthree\n\nfour\n\n[a]: https://a.example"
    growing.update(text[:-5], 1)
    growing.finish(text, 2)
    patch = growing.since(1)
    assert patch.start == 0
    assert "https://a.example" in patch.blocks[0]


def test_a_long_text_costs_as_much_for_each_piece_at_its_end_as_at_its_beginning() -> None:
    paragraph = "A paragraph of some words, and $x^2$.\n\n"

    def cost(before: int) -> float:
        growing = GrowingText(RENDERER)
        growing.update(paragraph * before, 1)
        best = 1.0
        for piece in range(5):
            text = paragraph * (before + 1 + piece)
            begun = time.perf_counter()
            growing.update(text, 2 + piece)
            best = min(best, time.perf_counter() - begun)
        return best

    assert cost(1_000) < 8 * cost(10)


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("There are **15", "There are **15**"),
        ("There are **", "There are "),
        ("There are **15**", "There are **15**"),
        ("one **two\nthree", "one **two\nthree"),
        ("call `f", "call `f`"),
        ("```\n**x", "```\n**x"),
        ("```", "```"),
    ],
)
def test_what_the_last_line_has_opened_is_closed_while_it_grows(text: str, ended: str) -> None:
    assert with_ends(text) == ended
    growing = GrowingText(RENDERER)
    growing.update(text, 1)
    assert growing.since(0).blocks == tuple(whole(ended))
    growing.finish(text, 2)
    assert growing.since(0).blocks == tuple(whole(text))


@pytest.mark.parametrize(
    "text",
    [
        "one\n#tag\n",
        "one\n-two\n",
        "one\n1.two",
        "one\n---x",
        "- a\n- b\n\n  c\n",
        "one\n> two\nthree",
    ],
)
def test_the_last_line_may_still_change_what_it_belongs_to(text: str) -> None:
    growing = GrowingText(RENDERER)
    for at in range(1, len(text) + 1):
        growing.update(text[:at], at)
        assert growing.since(0).blocks == tuple(whole(with_ends(text[:at])))
