"""Settings, languages, models and parallel thinking, in a real browser."""

import pytest
from playwright.sync_api import expect

from magistral_mlx.app.panels.texts import load_texts
from tests.browser.tab import OpenTab, Tab, box

pytestmark = pytest.mark.slow


def test_settings_change_the_sampling(tab: Tab) -> None:
    tab.set("seed", "11")
    tab.set("temperature", "2")
    tab.set("top_p", "1")
    tab.set("max_tokens", "40")
    texts = []
    for _ in range(2):
        tab.button("new_conversation").click()
        tab.ask("What is 12 + 30?")
        texts.append(tab.reasoning.inner_text() + tab.answer.inner_text())
    tab.set("temperature", "0")
    tab.button("new_conversation").click()
    tab.ask("What is 12 + 30?")
    texts.append(tab.reasoning.inner_text() + tab.answer.inner_text())
    assert texts[0] == texts[1], "the same seed gives the same text"
    assert texts[0] != texts[2], "temperature 0 gives another"
    assert texts[2].startswith("I add 12 and 30 digit by digit")


def test_longest_output_and_thinking_budget_are_said_where_they_cut(tab: Tab) -> None:
    tab.set("thinking_budget", "8")
    tab.ask("What is 12 + 30?")
    expect(tab.page.locator(".reasoning .count")).to_contain_text("8 tokens")
    expect(tab.page.locator(".remark")).to_be_visible()
    tab.set("max_tokens", "5")
    tab.ask("What is 12 + 31?")
    expect(tab.page.locator(".exchange").last.locator(".remark")).to_be_visible()


def test_a_setting_that_is_refused_says_why_and_reset_brings_the_cards_back(tab: Tab) -> None:
    tab.button("settings").click()
    temperature = tab.page.locator("#setting-temperature")
    temperature.fill("-1")
    temperature.dispatch_event("change")
    expect(tab.page.locator("dialog .wrong")).to_contain_text("temperature")
    temperature.fill("1.3")
    temperature.dispatch_event("change")
    expect(tab.page.locator("dialog .wrong")).to_have_text("")
    tab.button("reset").click()
    expect(temperature).to_have_value("0.7")
    expect(tab.page.locator("#setting-top_p")).to_have_value("0.95")


@pytest.mark.parametrize(
    ("locale", "send"),
    [("fr-FR", "Envoyer"), ("de-DE", "Senden"), ("ja-JP", "送信"), ("zh-CN", "发送")],
)
def test_the_page_speaks_the_browsers_language(open_tab: OpenTab, locale: str, send: str) -> None:
    tab = open_tab(locale=locale)
    expect(tab.page.locator(".send")).to_have_attribute("aria-label", send)
    assert tab.page.locator("html").get_attribute("lang") == locale[:2]


def test_arabic_turns_the_page_around_and_is_answered_in_arabic(open_tab: OpenTab) -> None:
    tab = open_tab(locale="ar")
    expect(tab.page.locator("#page")).to_have_attribute("dir", "rtl")
    assert box(tab.page.locator(".sidebar"))["x"] > box(tab.page.locator("main.main"))["x"]
    tab.ask("كم يساوي 12 + 30؟")
    expect(tab.answer).to_contain_text("42")
    assert box(tab.reasoning)["x"] > box(tab.answer)["x"]


def test_a_text_from_right_to_left_is_set_so_on_an_english_page(tab: Tab) -> None:
    tab.ask("كم يساوي 12 + 30؟")
    said = tab.questions.last
    assert said.evaluate("said => getComputedStyle(said).direction") == "rtl"
    paragraph = tab.answer.locator("p").first
    assert paragraph.evaluate("p => getComputedStyle(p).direction") == "rtl"


def test_the_language_can_be_chosen(tab: Tab) -> None:
    tab.button("settings").click()
    with tab.page.expect_navigation():
        tab.page.locator("#setting-language").select_option("es")
    tab.drawn()
    expect(tab.page.locator(".send")).to_have_attribute("aria-label", "Enviar")


def test_parallel_thinking_shows_columns_and_marks_the_majority(tab: Tab) -> None:
    tab.page.locator(".composer select").select_option("3")
    tab.ask("What is 12 + 30?")
    chains = tab.page.locator(".chain")
    expect(chains).to_have_count(3)
    expect(tab.page.locator(".vote")).to_contain_text("3")
    for index in range(3):
        expect(chains.nth(index)).to_have_attribute("data-agrees", "true")
        expect(chains.nth(index).locator(".answer .written")).to_contain_text("42")
    tops = {round(box(chains.nth(index))["y"]) for index in range(3)}
    assert len(tops) == 1, "they stand beside each other"
    tab.reload()
    expect(tab.page.locator(".chain[data-agrees=true]")).to_have_count(3)
    expect(tab.page.locator(".composer select")).to_have_value("3")


def test_the_model_can_be_opened_again_and_says_how_that_goes(tab: Tab) -> None:
    tab.page.locator("#model").click()
    expect(tab.page.locator(".models li").first).to_have_attribute("data-open", "true")
    row = tab.page.locator(".fits tr").filter(has_text="32 GB").first
    expect(row).to_contain_text("40,960")
    expect(row).to_contain_text("13.3 GB")


def test_gauges_show_the_window_and_the_memory(tab: Tab) -> None:
    tab.ask("What is 12 + 30?")
    gauge = tab.page.locator("#window-gauge")
    expect(gauge).to_contain_text("/ 40,960")
    expect(tab.page.locator("#memory-gauge")).to_contain_text("GB")
    gauge.click()
    figures = tab.page.locator("dialog .figures")
    expect(figures).to_have_count(2)
    expect(figures.last).to_contain_text("MB")


def test_a_window_that_gets_tight_comes_with_advice(tab: Tab) -> None:
    advice = tab.page.locator(".advice-line")
    tab.draft.fill("one two three " * 3_000)
    expect(tab.page.locator(".estimate")).to_contain_text("tokens")
    expect(advice).to_be_hidden()
    tab.draft.fill("one two three " * 12_000)
    expect(advice).to_have_text(load_texts("en")("advice_new_conversation"))
    tab.draft.fill("")
    expect(advice).to_be_hidden()
