"""Branches and the list of conversations, in a real browser."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.tab import Tab

pytestmark = pytest.mark.slow


def entry(tab: Tab, title: str) -> Locator:
    return tab.page.locator("li.conversation").filter(has_text=title)


def open_menu(tab: Tab, title: str) -> None:
    entry(tab, title).hover()
    tab.button("more", entry(tab, title)).click()


def test_editing_a_question_makes_a_branch_that_one_can_leave_and_come_back_to(tab: Tab) -> None:
    tab.ask("What is 11 + 12?")
    question = tab.page.locator(".question").last
    question.hover()
    tab.button("edit", question).click()
    editor = question.locator("textarea")
    editor.fill("What is 11 + 15?")
    editor.press("Enter")
    expect(tab.questions).to_have_text("What is 11 + 15?")
    tab.finish()
    expect(tab.answer).to_contain_text("26")
    expect(tab.page.locator(".question .place")).to_have_text("2 / 2")
    tab.button("previous").click()
    expect(tab.questions).to_have_text("What is 11 + 12?")
    expect(tab.answer).to_contain_text("23")
    tab.button("next").click()
    expect(tab.answer).to_contain_text("26")


def test_regenerating_keeps_both_answers_and_shows_them_side_by_side(tab: Tab) -> None:
    tab.ask("What is 11 + 13?")
    first = tab.page.url
    tab.button("regenerate", tab.page.locator(".answer").last).click()
    expect(tab.page.locator(".page[data-busy=true]")).to_be_attached()
    tab.finish()
    assert tab.page.url == first
    expect(tab.page.locator(".answer .place")).to_have_text("2 / 2")
    tab.button("side_by_side").click()
    columns = tab.page.locator(".chain")
    expect(columns).to_have_count(2)
    expect(columns.first.locator(".answer .written")).to_contain_text("24")
    expect(columns.last.locator(".answer .written")).to_contain_text("24")
    tab.button("keep_this", columns.first).click()
    expect(tab.page.locator(".answer .place")).to_have_text("1 / 2")


def test_conversations_are_found_renamed_pinned_and_deleted(tab: Tab) -> None:
    tab.ask("What is 81 + 12?")
    open_menu(tab, "81 + 12")
    tab.choose("rename")
    tab.page.locator("dialog input").fill("Ninety-three")
    tab.button("save").click()
    expect(tab.page.locator("h1")).to_have_text("Ninety-three")

    search = tab.page.get_by_role("searchbox")
    search.fill("81 + 12 is")
    expect(tab.page.locator("li.conversation")).to_have_text(["Ninety-three"])
    search.fill("nothing has this in it")
    expect(tab.page.locator("li.conversation")).to_have_count(0)
    search.fill("")

    open_menu(tab, "Ninety-three")
    tab.choose("pin")
    expect(tab.page.locator(".conversations li").first).to_have_text("Pinned")
    expect(tab.page.locator("li.conversation").first).to_have_text("Ninety-three")

    open_menu(tab, "Ninety-three")
    tab.choose("delete")
    tab.button("cancel").click()
    expect(entry(tab, "Ninety-three")).to_have_count(1)
    open_menu(tab, "Ninety-three")
    tab.choose("delete")
    tab.button("delete", tab.page.locator("dialog")).click()
    expect(entry(tab, "Ninety-three")).to_have_count(0)
    expect(tab.page.locator(".exchange")).to_have_count(0)


def test_an_exported_conversation_is_imported_again(tab: Tab, tmp_path: Path) -> None:
    tab.ask("What is 17 + 12?")
    open_menu(tab, "17 + 12")
    with tab.page.expect_download() as markdown:
        tab.choose("export_markdown")
    assert markdown.value.suggested_filename.endswith(".md")
    assert "**29**" in markdown.value.path().read_text(encoding="utf-8")

    open_menu(tab, "17 + 12")
    with tab.page.expect_download() as exported:
        tab.choose("export_json")
    file = tmp_path / "conversation.json"
    exported.value.save_as(file)
    assert json.loads(file.read_text(encoding="utf-8"))

    with tab.page.expect_file_chooser() as chooser:
        tab.button("import").click()
    chooser.value.set_files(file)
    expect(entry(tab, "17 + 12")).to_have_count(2)
    expect(tab.answer).to_contain_text("29")


def test_a_file_that_is_no_conversation_is_refused_in_one_sentence(tab: Tab) -> None:
    with tab.page.expect_file_chooser() as chooser:
        tab.button("import").click()
    chooser.value.set_files(
        {"name": "x.json", "mimeType": "application/json", "buffer": b'{"some": "thing"}'}
    )
    expect(tab.page.locator(".notice")).to_be_visible()
    assert re.fullmatch(r"[^.!?]+[^\n]*[.]", tab.page.locator(".notice").inner_text())


def test_back_leads_to_the_conversation_before(tab: Tab) -> None:
    tab.ask("What is 31 + 12?")
    tab.button("new_conversation").click()
    expect(tab.page.locator(".exchange")).to_have_count(0)
    tab.page.go_back()
    expect(tab.questions).to_have_text("What is 31 + 12?")
    tab.page.go_forward()
    expect(tab.page.locator(".exchange")).to_have_count(0)
