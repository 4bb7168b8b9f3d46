"""Asking in a real browser: both streams, stopping, going on, and what survives."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from magistral_mlx.app.panels.services import Services
from tests.browser.page_server import page_command
from tests.browser.tab import OpenTab, Tab, box

pytestmark = pytest.mark.slow

WATCH = """
() => {
  window.seen = [];
  const last = (part) => [...document.querySelectorAll(part)].at(-1)?.textContent.length ?? 0;
  new MutationObserver(() => {
    const now = [last(".reasoning .written"), last(".answer .written")];
    if (String(now) !== String(window.seen.at(-1))) window.seen.push(now);
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}
"""
LONG = "There are 8 boxes with 97 books each and 568 more books. How many books are there in all?"


def test_reasoning_streams_before_the_answer_and_both_end_right(tab: Tab) -> None:
    tab.page.evaluate(WATCH)
    tab.ask("What is 12 + 30?")
    seen: list[list[int]] = tab.page.evaluate("window.seen")
    alone = [reasoning for reasoning, answer in seen if reasoning and not answer]
    together = [answer for reasoning, answer in seen if reasoning and answer]
    assert len(set(alone)) > 3, "the reasoning grew while there was no answer"
    assert len(set(together)) > 1, "the answer grew beside it"
    expect(tab.reasoning).to_contain_text("So 12 + 30 = 42.")
    expect(tab.answer).to_have_text("The result of 12 + 30 is 42.")
    expect(tab.answer.locator("strong")).to_have_text("42")


def test_reasoning_and_answer_stand_side_by_side(tab: Tab) -> None:
    tab.ask("What is 14 + 23?")
    reasoning, answer = box(tab.reasoning), box(tab.answer)
    assert reasoning["x"] + reasoning["width"] < answer["x"]
    assert abs(reasoning["y"] - answer["y"]) < 60


def test_figures_of_the_answer_stay_below_it(tab: Tab) -> None:
    tab.ask("What is 15 + 23?")
    line = tab.page.locator(".answer .after .line")
    expect(line).to_contain_text(re.compile(r"\d tokens/s"))
    expect(line).to_contain_text(re.compile(r"first token after \d+\.\d\d s"))
    expect(tab.page.locator(".reasoning .count")).to_contain_text(re.compile(r"\d+ tokens"))


def test_stop_keeps_what_was_written_and_frees_the_page(tab: Tab) -> None:
    tab.begin(LONG)
    expect(tab.reasoning).to_contain_text("First I count")
    tab.button("stop").click()
    tab.finish()
    expect(tab.page.locator(".remark")).to_have_text("Stopped.")
    expect(tab.reasoning).not_to_contain_text("1344")
    tab.ask("What is 12 + 31?")
    expect(tab.answer).to_contain_text("43")


def test_escape_stops(tab: Tab) -> None:
    tab.begin(LONG)
    expect(tab.reasoning).to_contain_text("First I count")
    tab.page.keyboard.press("Escape")
    tab.finish()
    expect(tab.page.locator(".remark")).to_have_text("Stopped.")


def test_answer_now_closes_the_reasoning_and_goes_on_to_an_answer(tab: Tab) -> None:
    tab.begin(LONG)
    expect(tab.reasoning).to_contain_text("First I count")
    tab.button("answer_now").click()
    tab.finish()
    expect(tab.page.locator(".remark")).to_be_visible()
    expect(tab.answer).not_to_be_empty()
    expect(tab.reasoning).not_to_contain_text("So 776 + 568")


def test_second_turn_goes_below_the_first_and_folds_its_reasoning(tab: Tab) -> None:
    tab.ask("What is 12 + 30?")
    tab.ask("What is 20 + 31?")
    assert tab.replies.count() == 2
    expect(tab.answer).to_contain_text("51")
    expect(tab.page.locator(".reasoning").first).to_have_attribute("data-open", "false")
    expect(tab.page.locator(".reasoning").last).to_have_attribute("data-open", "true")


def test_reload_shows_the_conversation_again(tab: Tab) -> None:
    tab.ask("What is 12 + 34?")
    before = tab.answer.inner_html()
    tab.reload()
    expect(tab.questions).to_have_text("What is 12 + 34?")
    assert tab.answer.inner_html() == before
    expect(tab.reasoning).to_contain_text("So 12 + 34 = 46.")


def test_reload_while_it_runs_goes_on_with_the_same_answer(tab: Tab) -> None:
    tab.begin(LONG)
    expect(tab.reasoning).to_contain_text("First I count")
    tab.reload()
    expect(tab.page.locator(".page[data-busy=true]")).to_be_attached()
    expect(tab.reasoning).to_contain_text("First I count")
    tab.finish()
    expect(tab.answer).to_contain_text("1344")
    expect(tab.page.locator(".remark:visible")).to_have_count(0)


def test_a_tab_closed_in_the_middle_ends_its_answer(open_tab: OpenTab, services: Services) -> None:
    tab = open_tab()
    tab.begin("\n".join([LONG] * 3))
    expect(tab.reasoning).not_to_be_empty()
    conversation = tab.page.evaluate("location.hash.slice(1)")
    run = services.runs.of(conversation)
    assert run is not None
    tab.page.close()
    assert run.join(15), "it ended by itself"
    assert [chain.ending for chain in run.snapshot().chains] == ["cancelled"]


def test_two_tabs_do_not_mix(open_tab: OpenTab) -> None:
    left = open_tab()
    right = open_tab(beside=left)
    left.begin("What is 21 + 14?")
    right.begin("What is 63 - 22?")
    left.finish()
    right.finish()
    expect(left.answer).to_have_text("The result of 21 + 14 is 35.")
    expect(right.answer).to_have_text("The result of 63 - 22 is 41.")
    assert left.questions.all_inner_texts() == ["What is 21 + 14?"]
    assert right.questions.all_inner_texts() == ["What is 63 - 22?"]


def test_an_answer_goes_on_while_another_conversation_is_shown(tab: Tab) -> None:
    tab.begin(LONG)
    expect(tab.reasoning).to_contain_text("First I count")
    tab.button("new_conversation").click()
    expect(tab.page.locator(".exchange")).to_have_count(0)
    tab.page.wait_for_timeout(4_000)  # longer than a run goes on without anybody watching
    tab.page.locator(".conversation").filter(has_text="There are 8 boxes").first.click()
    tab.finish()
    expect(tab.answer).to_contain_text("1344")


def test_conversations_and_settings_survive_a_restart(open_tab: OpenTab, tmp_path: Path) -> None:
    with page_command(tmp_path) as url:
        tab = open_tab(url)
        tab.set("thinking_budget", "300")
        tab.ask("What is 12 + 36?")
        conversation = tab.page.evaluate("location.hash")
    with page_command(tmp_path) as url:
        tab = open_tab(url + conversation)
        expect(tab.answer).to_have_text("The result of 12 + 36 is 48.")
        tab.button("settings").click()
        expect(tab.page.locator("#setting-thinking_budget")).to_have_value("300")
