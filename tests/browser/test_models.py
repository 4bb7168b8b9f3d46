"""Opening and converting models from the page."""

import re
import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect

from magistral_mlx import Magistral, open_model
from magistral_mlx.app.panels.services import open_services
from magistral_mlx.demo.expand import expand_demo
from magistral_mlx.errors import UserError
from magistral_mlx.folders import models_folder
from tests.browser.page_server import served
from tests.browser.tab import OpenTab, Tab

pytestmark = pytest.mark.slow


def test_a_model_is_converted_watched_and_opened(
    open_tab: OpenTab, shots: Path, tmp_path: Path
) -> None:
    source = tmp_path / "Tiny-Magistral"
    expand_demo(source)
    with (
        open_services(data_folder=None, open_model=open_model, state_folder=tmp_path) as services,
        served(services) as url,
    ):
        tab = open_tab(url, with_model=False)
        tab.page.locator("#model").click()
        form = tab.page.locator(".convert-row")
        form.locator("input").fill(str(source))
        tab.button("convert", form).click()
        bar = tab.page.get_by_role("progressbar")
        expect(bar).to_have_attribute("aria-valuenow", re.compile("[1-9]"), timeout=60_000)
        tab.page.screenshot(path=shots / "light-1440-converting.png")
        expect(tab.page.locator("dialog .about").last).to_contain_text(
            "Tiny-Magistral-4bit", timeout=60_000
        )
        assert (models_folder() / "Tiny-Magistral-4bit" / "config.json").is_file()

        entry = tab.page.locator(".models li").filter(has_text="Tiny-Magistral-4bit")
        tab.button("open", entry).click()
        expect(entry).to_have_attribute("data-open", "true", timeout=60_000)
        tab.page.keyboard.press("Escape")
        expect(tab.page.locator("#model")).to_contain_text("Tiny-Magistral-4bit")
        tab.ask("What is 12 + 30?")
        expect(tab.answer).to_contain_text("42")


def test_what_cannot_be_converted_is_said_in_one_sentence(tab: Tab) -> None:
    tab.page.locator("#model").click()
    form = tab.page.locator(".convert-row")
    form.locator("input").fill("/no/such/folder")
    tab.button("convert", form).click()
    wrong = tab.page.locator("dialog p.wrong").filter(has_text="/no/such/folder")
    expect(wrong).to_be_visible()
    expect(tab.page.locator(".convert-row input")).to_have_value("/no/such/folder")


def test_while_a_model_opens_the_page_says_so_and_keeps_the_draft(
    open_tab: OpenTab, demo: Magistral, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def open_slowly(choice: str) -> Magistral:
        go_on.wait(60)
        return demo

    with open_services(data_folder=None, open_model=open_slowly, state_folder=tmp_path) as services:
        # The demo stays open for the other tests.
        monkeypatch.setattr(services.models, "close", services.runs.stop_all)
        services.models.open("demo")
        with served(services) as url:
            tab = open_tab(url, with_model=False)
            expect(tab.page.locator("#model .state")).to_have_attribute("data-state", "opening")
            expect(tab.page.locator("#model .name")).to_contain_text(re.compile(r"\d s"))
            tab.draft.fill("What is 12 + 30?")
            expect(tab.button("send")).to_be_disabled()
            tab.draft.press("Enter")
            assert tab.draft.input_value() == "What is 12 + 30?"
            go_on.set()
            expect(tab.button("send")).to_be_enabled()
            tab.draft.press("Enter")
            tab.finish()
            expect(tab.answer).to_contain_text("42")


def test_a_model_that_cannot_be_opened_says_why_and_another_can_be_chosen(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    def refuse(choice: str) -> Magistral:
        raise UserError("The model takes 13.3 GB, and 8.0 GB are free: close other programs.")

    with open_services(data_folder=None, open_model=refuse, state_folder=tmp_path) as services:
        services.models.open("demo")
        with served(services) as url:
            tab = open_tab(url, with_model=False)
            expect(tab.page.locator("#model .state")).to_have_attribute("data-state", "failed")
            tab.page.locator("#model").click()
            expect(tab.page.locator("dialog")).to_contain_text("close other programs")
            entry = tab.page.locator(".models li").first
            expect(tab.button("open", entry)).to_be_enabled()
