"""How the page looks: sizes, colour schemes, accessibility, and screenshots to look at."""

from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.page_server import served_typist
from tests.browser.tab import OpenTab, Tab, box
from tests.terminal.typist import Typist

pytestmark = pytest.mark.slow

QUESTION = (
    "There are 6 boxes with 24 books each and 15 more books. How many books are there in all?"
)


def check_accessible(tab: Tab) -> None:
    """No violation that axe calls serious or critical."""
    # Gradio's own elements are hidden behind ours.
    found = Axe().run(tab.page, context="#page").response["violations"]
    worst = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not worst, [
        (each["id"], each["nodes"][0]["html"][:300], each["nodes"][0]["failureSummary"])
        for each in worst
    ]


def overflows(tab: Tab) -> bool:
    wide: bool = tab.page.evaluate(
        """() => [...document.querySelectorAll("#page, .scroll, .composer, .top")]
          .some((part) => part.scrollWidth > part.clientWidth + 1)"""
    )
    return wide


@pytest.mark.parametrize(
    ("width", "height", "dark"),
    [(1440, 900, False), (1440, 900, True), (390, 844, False)],
    ids=["wide light", "wide dark", "narrow light"],
)
def test_every_view_fits_and_is_accessible(
    open_tab: OpenTab, shots: Path, width: int, height: int, dark: bool
) -> None:
    tab = open_tab(width=width, height=height, dark=dark)
    name = f"{'dark' if dark else 'light'}-{width}"

    def view(what: str) -> None:
        tab.page.wait_for_timeout(250)  # until transitions have ended
        tab.page.screenshot(path=shots / f"{name}-{what}.png")
        assert not overflows(tab), what
        check_accessible(tab)

    view("empty")
    tab.begin(QUESTION)
    expect(tab.reasoning).to_contain_text("I multiply")
    tab.page.screenshot(path=shots / f"{name}-streaming.png")
    tab.finish()
    view("answer")
    for what, opens in _panels(tab).items():
        opens()
        view(what)
        tab.page.keyboard.press("Escape")
        expect(tab.page.locator("dialog, .menu")).to_have_count(0)
    if width < 800:
        tab.page.locator("#show-sidebar").click()
        view("sidebar")


def _panels(tab: Tab) -> dict[str, Callable[[], None]]:
    return {
        "settings": lambda: tab.button("settings").click(),
        "gauges": lambda: tab.page.locator("#window-gauge").click(),
        "models": lambda: tab.page.locator("#model").click(),
    }


def test_chains_and_a_long_conversation_are_accessible(open_tab: OpenTab, shots: Path) -> None:
    tab = open_tab()
    tab.ask("What is 12 + 30?")
    tab.page.locator(".composer select").select_option("4")
    tab.begin("What is 345 - 189?")
    expect(tab.page.locator(".chain .reasoning .written").last).to_contain_text("I subtract")
    tab.page.screenshot(path=shots / "light-1440-chains-streaming.png")
    tab.finish()
    tab.page.wait_for_timeout(250)
    tab.page.screenshot(path=shots / "light-1440-chains.png")
    check_accessible(tab)
    assert not overflows(tab)


def test_arabic_is_accessible_and_fits(open_tab: OpenTab, shots: Path) -> None:
    tab = open_tab(locale="ar", dark=True)
    tab.ask("كم يساوي 47 + 85؟")
    check_accessible(tab)
    for width, height in ((1440, 900), (390, 844)):
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.page.wait_for_timeout(250)
        tab.page.screenshot(path=shots / f"arabic-{width}.png")
        assert not overflows(tab)


def test_panes_stack_and_the_reasoning_is_folded_on_a_phone(open_tab: OpenTab) -> None:
    tab = open_tab(width=390, height=844)
    tab.ask("What is 12 + 30?")
    section = tab.page.locator(".reasoning")
    expect(section).to_have_attribute("data-open", "false")
    expect(tab.reasoning).to_be_hidden()
    section.get_by_role("button").first.click()
    expect(tab.reasoning).to_be_visible()
    above, below = box(tab.reasoning), box(tab.answer)
    assert above["y"] + above["height"] <= below["y"]


def test_the_reader_who_scrolls_up_is_left_alone_and_can_jump_back(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    typist = Typist("Another line of thought.\n\n" * 400, "Done.", pause=0.01)
    with served_typist(typist, tmp_path) as url:
        tab = open_tab(url)
        tab.begin("Think.")
        thoughts = tab.reasoning
        rest = "body => body.scrollHeight - body.scrollTop - body.clientHeight"
        expect(thoughts.locator("p")).not_to_have_count(0)
        tab.page.wait_for_function(
            "document.querySelector('.reasoning .written').scrollTop > 200", timeout=30_000
        )
        assert thoughts.evaluate(rest) < 60, "it follows"
        thoughts.hover()
        tab.page.mouse.wheel(0, -150)
        jump = tab.button("jump_to_latest")
        expect(jump).to_be_visible()
        before = thoughts.evaluate("body => body.scrollTop")
        tab.page.wait_for_timeout(500)
        assert thoughts.evaluate("body => body.scrollTop") == before
        jump.click()
        expect(jump).to_be_hidden()
        tab.page.wait_for_timeout(300)
        assert thoughts.evaluate(rest) < 60, "it follows again"
        tab.button("stop").click()
        tab.finish()


def test_the_choice_of_light_or_dark_is_kept(tab: Tab) -> None:
    ground = "document.querySelector('#page')"
    before = tab.page.evaluate(f"getComputedStyle({ground}).backgroundColor")
    tab.button("theme").click()
    after = tab.page.evaluate(f"getComputedStyle({ground}).backgroundColor")
    assert before != after
    tab.reload()
    assert tab.page.evaluate(f"getComputedStyle({ground}).backgroundColor") == after


def test_placeholders_are_fainter_than_text(tab: Tab) -> None:
    for control in (tab.draft, tab.page.locator("#search")):
        text, placeholder = control.evaluate(
            "control => [getComputedStyle(control), getComputedStyle(control, '::placeholder')]"
            ".map((style) => style.color)"
        )
        assert placeholder == "rgb(109, 104, 96)"
        assert text != placeholder


def test_no_motion_where_the_user_wants_none(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.page.emulate_media(reduced_motion="reduce")
    tab.begin(QUESTION)
    dot = tab.page.locator(".waiting .dot").last
    expect(dot).to_be_visible()
    assert dot.evaluate("dot => getComputedStyle(dot).animationName") == "none"
    tab.button("stop").click()
    tab.finish()
