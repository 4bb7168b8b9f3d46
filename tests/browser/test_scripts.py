"""The page's scripts in a real browser: modules from the page's own server, and nothing else."""

import re

import pytest
from playwright.sync_api import Browser, Request, expect

from magistral_mlx.app.launch import Address
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.scripts import load_scripts
from tests.browser.page_server import served
from tests.browser.tab import OpenTab, Tab

pytestmark = pytest.mark.slow

SCRIPTS = load_scripts()
NOTE_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.effectiveDirective} ${event.blockedURI}`);
});
"""
INLINE = "[...document.scripts].filter((each) => !each.src).map((each) => each.textContent.trim())"


def test_all_modules_come_from_here_and_the_policy_allows_them(open_tab: OpenTab, url: str) -> None:
    tab = open_tab()
    asked: list[Request] = []
    tab.page.on("request", lambda request: asked.append(request))
    tab.page.add_init_script(NOTE_VIOLATIONS)
    tab.reload()
    modules = [each.url for each in asked if "/scripts/" in each.url]
    assert sorted(modules) == [url + SCRIPTS.path(name) for name in sorted(SCRIPTS.modules)]
    assert {each.resource_type for each in asked if each.url in modules} == {"script"}
    assert tab.page.evaluate("window.violations") == []


def test_no_script_is_inline_but_gradios_own(tab: Tab, url: str) -> None:
    sent = tab.page.request.get(url).text()
    for script in tab.page.evaluate(INLINE):
        assert script in sent
    assert "begin(server)" in sent  # what loads the modules: a text in Gradio's configuration
    assert not any("begin(server)" in each for each in re.findall("<script[^>]*>([^{]*)<", sent))


def test_the_modules_add_nothing_to_the_window(open_tab: OpenTab, url: str) -> None:
    tab = open_tab()
    bare = tab.page.context.new_page()
    bare.route("**/scripts/**", lambda route: route.abort())
    bare.goto(url)
    expect(bare.locator("#page")).to_contain_text("could not be loaded")
    added = set(tab.page.evaluate("Object.keys(window)")) - set(
        bare.evaluate("Object.keys(window)")
    )
    assert added == set()


def test_a_module_that_cannot_be_loaded_is_reported(open_tab: OpenTab, url: str) -> None:
    page = open_tab().page.context.new_page()
    page.route("**/scripts/*/composer.js", lambda route: route.abort())
    page.goto(url)
    expect(page.locator("#page")).to_have_text(re.compile(r"The page could not be loaded\. Reload"))
    page.unroute("**/scripts/*/composer.js")
    page.reload()
    Tab(page).drawn()


def test_a_server_that_does_not_answer_is_reported(open_tab: OpenTab, url: str) -> None:
    page = open_tab().page.context.new_page()
    page.route(re.compile("component_server"), lambda route: route.abort())
    page.goto(url)
    expect(page.locator("#page")).to_have_text(re.compile(r"The page could not be loaded\. Reload"))


def test_the_page_works_behind_a_password(browser: Browser, services: Services) -> None:
    with served(services, Address(auth=("ada", "correct-horse"))) as url:
        context = browser.new_context(locale="en-US")
        page = context.new_page()
        page.goto(url)
        page.locator("input").first.fill("ada")
        page.locator("input[type=password]").fill("correct-horse")
        page.get_by_role("button", name="Login").click()
        tab = Tab(page)
        tab.drawn()
        tab.ask("What is 12 + 30?")
        expect(tab.answer).to_contain_text("42")
        context.close()
