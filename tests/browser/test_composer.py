"""The composer in a real browser: keys, files, and messages that do not fit."""

import pytest
from playwright.sync_api import expect

from tests.browser.tab import OpenTab, Tab

pytestmark = pytest.mark.slow


def test_enter_sends_and_shift_enter_makes_a_line(tab: Tab) -> None:
    tab.draft.fill("What is 12 + 30?")
    tab.draft.press("Shift+Enter")
    tab.draft.press_sequentially("Thank you")
    assert tab.draft.input_value() == "What is 12 + 30?\nThank you"
    expect(tab.page.locator(".exchange")).to_have_count(0)
    tab.draft.fill("What is 12 + 30?")
    tab.draft.press("Enter")
    expect(tab.questions).to_have_text("What is 12 + 30?")
    assert tab.draft.input_value() == ""
    tab.finish()


def test_the_enter_that_ends_the_composing_of_a_word_does_not_send(tab: Tab) -> None:
    tab.draft.fill("こんにちは")
    for key in ({"isComposing": True}, {"keyCode": 229}):
        tab.draft.dispatch_event("keydown", {"key": "Enter", **key})
    tab.page.wait_for_timeout(300)
    expect(tab.page.locator(".exchange")).to_have_count(0)
    assert tab.draft.input_value() == "こんにちは"


def test_slash_goes_to_the_composer_unless_one_is_typing(tab: Tab) -> None:
    tab.button("new_conversation").focus()
    tab.page.keyboard.press("/")
    expect(tab.draft).to_be_focused()
    tab.page.keyboard.press("/")
    assert tab.draft.input_value() == "/"


def test_a_message_that_does_not_fit_is_refused_with_numbers_and_not_lost(tab: Tab) -> None:
    text = "one two three " * 15_000
    tab.draft.fill(text)
    expect(tab.page.locator(".estimate[data-over=true]")).to_be_visible(timeout=20_000)
    tab.draft.press("Enter")
    refusal = tab.page.get_by_role("alert")
    expect(refusal).to_contain_text("40,960", timeout=20_000)
    expect(refusal).to_contain_text("45,")
    assert tab.draft.input_value() == text
    expect(tab.page.locator(".exchange")).to_have_count(0)


def test_a_file_shows_its_tokens_and_becomes_part_of_the_message(tab: Tab) -> None:
    with tab.page.expect_file_chooser() as chooser:
        tab.button("attach").click()
    chooser.value.set_files(
        {"name": "sum.md", "mimeType": "text/markdown", "buffer": b"# A sum\n\nWhat is 12 + 30?\n"}
    )
    chip = tab.page.locator(".composer .file")
    expect(chip).to_contain_text("sum.md")
    expect(chip).to_contain_text("tokens")
    tab.begin("What is 12 + 30?")
    expect(tab.page.locator(".question .file")).to_contain_text("sum.md")
    tab.finish()
    expect(tab.page.locator(".composer .file")).to_have_count(0)


def test_a_dropped_file_is_taken_and_can_be_removed(tab: Tab) -> None:
    dropped = tab.page.evaluate_handle(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["print(1)"], "one.py"));
          return data;
        }"""
    )
    tab.page.locator("#page").dispatch_event("drop", {"dataTransfer": dropped})
    expect(tab.page.locator(".composer .file")).to_contain_text("one.py")
    tab.button("remove_file", name="one.py").click()
    expect(tab.page.locator(".composer .file")).to_have_count(0)


def test_a_binary_file_is_refused_by_name(tab: Tab) -> None:
    with tab.page.expect_file_chooser() as chooser:
        tab.button("attach").click()
    chooser.value.set_files(
        {"name": "photo.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n\0\0\0\0"}
    )
    expect(tab.page.locator(".notice")).to_contain_text("photo.png")
    expect(tab.page.locator(".composer .file")).to_have_count(0)


def test_a_refused_message_stays_in_the_box(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.ask("What is 12 + 30?")
    conversation = tab.page.evaluate("location.hash")
    # Another tab of the same user answers in this conversation meanwhile.
    other = open_tab(tab.page.url, beside=tab)
    assert other.page.evaluate("location.hash") == conversation
    other.begin(
        "There are 8 boxes with 97 books each and 568 more books. How many books are there?"
    )
    tab.draft.fill("What is 12 + 31?")
    tab.draft.press("Enter")
    expect(tab.page.locator(".refusal")).to_be_visible()
    assert tab.draft.input_value() == "What is 12 + 31?"
    other.button("stop").click()
    other.finish()
