"""Markdown to HTML: what is shown, and what never becomes HTML."""

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magistral_mlx.app.rendering.growing_text import GrowingText
from magistral_mlx.app.rendering.markdown import MarkdownRenderer

RENDERER = MarkdownRenderer()

ALLOWED_TAGS = frozenset(
    re.findall(
        r"\w+",
        "p h1 h2 h3 h4 h5 h6 ul ol li blockquote hr br em strong s code pre a div span figure "
        "figcaption button table thead tbody tr th td math mrow mi mn mo mtext mspace mfrac msqrt "
        "mroot mstyle mpadded mphantom menclose msub msup msubsup munder mover munderover "
        "mmultiscripts mprescripts none mtable mtr mtd",
    )
)


class Checker(HTMLParser):
    """Reads HTML as a browser does, and remembers what should not be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ALLOWED_TAGS:
            self.wrong.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name in ("src", "srcset", "srcdoc", "action", "formaction"):
                self.wrong.append(f"{tag} {name}")
            if name == "href" and not (value or "").lower().startswith(
                ("http:", "https:", "mailto:")
            ):
                self.wrong.append(f"{tag} href={value}")
            if name == "style" and tag not in ("td", "th"):
                self.wrong.append(f"{tag} style")


def wrong_in(html: str) -> list[str]:
    checker = Checker()
    checker.feed(html)
    checker.close()
    return checker.wrong


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**42**", '<p dir="auto"><strong>42</strong></p>'),
        ("a\nb", '<p dir="auto">a<br />\nb</p>'),
        ("<b>x</b>", '<p dir="auto">&lt;b&gt;x&lt;/b&gt;</p>'),
        ("costs $5 and $6", '<p dir="auto">costs $5 and $6</p>'),
        ("[a](javascript:b)", '<p dir="auto">[a](javascript:b)</p>'),
        ("[a](/local)", '<p dir="auto">[a](/local)</p>'),
    ],
)
def test_markdown_is_rendered_and_html_is_shown(text: str, html: str) -> None:
    assert RENDERER.html(text).strip() == html


def test_links_open_apart_and_images_become_links() -> None:
    html = RENDERER.html("[a](https://a.example) ![b](https://b.example/b.png)")
    assert '<a href="https://a.example" target="_blank" rel="noopener noreferrer nofollow">' in html
    assert '<a class="image" href="https://b.example/b.png"' in html
    assert "<img" not in html


@pytest.mark.parametrize("text", [r"$x^2$", r"\(x^2\)", r"$$x^2$$", r"\[x^2\]"])
def test_formulas_become_mathml(text: str) -> None:
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in RENDERER.html(text)


def test_text_beside_a_formula_stays() -> None:
    html = RENDERER.html("\\[x^2\\] is a square")
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in html
    assert "is a square" in html
    assert '<div class="formula" tabindex="0"><math' in RENDERER.html("\\[x\n= 1\\] (3)\n\nb")


def test_numbered_environments_are_set_without_numbers() -> None:
    html = RENDERER.html("\\begin{align}\na &= b\\\\\nc &= d\n\\end{align}")
    assert "<mtable" in html
    assert "(1)" not in html


@pytest.mark.parametrize("latex", [r"\frac{", r"\begin{cases", "{" * 900, r"x^1^2", "\\left("])
def test_what_is_no_formula_is_shown_as_written(latex: str) -> None:
    assert '<code class="latex" dir="ltr">' in RENDERER.html(f"${latex}$")


def test_a_name_of_a_function_is_followed_by_a_thin_space() -> None:
    assert '<mi>ln</mi><mspace width="0.17em"></mspace><mi>x</mi>' in RENDERER.html(r"$\ln x$")
    assert "mspace" not in RENDERER.html(r"$\ln(x)$")


def test_code_is_coloured_and_an_unknown_language_is_plain() -> None:
    assert '<span class="hl-k">def</span>' in RENDERER.html("```python\ndef f(): ...\n```")
    assert "<code>x &lt; y\n</code>" in RENDERER.html("```nosuch\nx < y\n```")


def test_texts_take_their_direction_from_what_they_say_and_code_does_not() -> None:
    html = RENDERER.html("# مرحبا\n\n- نص\n\n```\ncode\n```")
    assert '<h1 dir="auto">' in html
    assert '<li dir="auto">' in html
    assert '<figure class="code" dir="ltr">' in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](JaVaScRiPt:alert(1)) <javascript:alert(1)> [x](data:text/html,x)",
        "![x](javascript:alert(1))",
        '[x](https://a.example "onmouseover=alert(1)")',
        '[x](<https://a.example/"onclick="alert(1)>)',
        '```"><img src=x onerror=alert(1)>\nx\n```',
        r"$\text{<img src=x onerror=alert(1)>}$",
        r"$\text{&lt;img src=x onerror=alert(1)&gt;}$",
        r"$\href{javascript:alert(1)}{x}$",
        r'$\color{red" onload="alert(1)}{x}$',
        r"$\unicode{x3c}img src=x\unicode{x3e}$",
        "| <svg onload=alert(1)> |\n|---|\n| `<b>` |",
    ],
)
def test_hostile_texts_become_harmless(text: str) -> None:
    assert wrong_in(RENDERER.html(text)) == []


@pytest.mark.parametrize(
    "repeated",
    [
        *(
            "[",
            "![",
            "\\(",
            "\\(a",
            "\\[",
            "\\[a ",
            "- \\[a\n",
            "\n\n\\[>&",
            "$",
            "$$",
            "\\begin{align}\n",
        ),
        *(
            "\n\n\\begin{align}`",
            "\\end{",
            "\\begin{",
            "`a``a",
            "**a ",
            "|-|-\n",
            "~~~\n",
            "<",
            "> ",
        ),
    ],
)
def test_hostile_texts_are_rendered_in_linear_time(repeated: str) -> None:
    growing = GrowingText(RENDERER)
    for start, end in (("", ""), ("\\[ ", " \\]x"), ("- \\(", "\\)")):
        text = start + repeated * (20_000 // len(repeated)) + end
        begun = time.process_time()
        growing.update(text, 1)
        assert time.process_time() - begun < 3


@given(
    st.lists(
        st.sampled_from(
            [
                *("<", ">", '"', "'", "&lt;", "script", "img src=x onerror=y", "](", "[", "!"),
                *("$", "$$", "javascript:", "\n", "\n\n", "```", "`", "|", "\\text{", "}"),
                *("\\(", "\\)", "a", " "),
            ]
        ),
        max_size=40,
    ).map("".join)
)
def test_no_text_at_all_becomes_anything_else_than_what_is_allowed(text: str) -> None:
    assert wrong_in(RENDERER.html(text)) == []


def test_a_block_is_one_element() -> None:
    text = "# a\n\nb\n\n- c\n  - d\n\n> e\n\n```\nf\n```\n\n| g |\n|---|\n| h |\n\n$$i$$\n\n---\n"
    for block in RENDERER.blocks(text):
        depth = roots = 0
        for closing, single in re.findall(r"<(/?)[a-z][^>]*?(/?)>", block.html):
            roots += depth == 0 and not closing
            depth += 0 if single else (-1 if closing else 1)
        assert roots == 1, block.html
        assert depth == 0


def test_an_environment_that_begins_in_a_list_does_not_hide_the_next_one() -> None:
    html = RENDERER.html("1. one\n\\begin{align}\n---\n\\begin{align}\nx^2\n\\end{align}")
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in html
