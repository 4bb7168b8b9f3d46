"""A tab that shows the page, and what its user does in it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect

ANSWER_MS = 60_000


@dataclass(frozen=True, slots=True)
class Tab:
    """The page, opened."""

    page: Page

    @property
    def draft(self) -> Locator:
        return self.page.locator("#draft")

    @property
    def replies(self) -> Locator:
        return self.page.locator(".reply")

    @property
    def reasoning(self) -> Locator:
        """Of the last exchange."""
        return self.page.locator(".exchange").last.locator(".reasoning .written")

    @property
    def answer(self) -> Locator:
        """Of the last exchange."""
        return self.page.locator(".exchange").last.locator(".answer .written")

    @property
    def questions(self) -> Locator:
        return self.page.locator(".question .said")

    def begin(self, text: str) -> None:
        """Send a question, and come back when it runs."""
        self.draft.fill(text)
        self.draft.press("Enter")
        expect(self.page.locator(".page[data-busy=true]")).to_be_attached()

    def ask(self, text: str) -> None:
        """Send a question, and wait for the whole answer."""
        self.begin(text)
        self.finish()

    def finish(self) -> None:
        """Wait until the answer that runs is complete and its tools are there."""
        idle = self.page.locator(".page[data-busy=false]")
        expect(idle).to_be_attached(timeout=ANSWER_MS)
        expect(self.page.locator(".exchange").last.locator(".answer .tools button").first).to_be_attached()

    def ready(self) -> None:
        """Wait until the page is drawn and its model open."""
        expect(self.page.locator(".page[data-ready=true]")).to_be_attached(timeout=ANSWER_MS)
        state = self.page.locator("#model .state[data-state=ready]")
        expect(state).to_be_attached(timeout=ANSWER_MS)

    def reload(self) -> None:
        self.page.reload()
        self.ready()

    def button(self, name: str | re.Pattern[str], within: Locator | None = None) -> Locator:
        """The last button of that name."""
        return (within or self.page.locator("body")).get_by_role("button", name=name, exact=True).last

    def choose(self, name: str) -> None:
        """An entry of the menu that is open."""
        self.page.get_by_role("menuitem", name=name, exact=True).click()

    def set(self, name: str, value: str) -> None:
        """Change a setting, in the panel, and close it."""
        self.button("Settings").click()
        control = self.page.locator(f"#setting-{name}")
        if control.evaluate("control => control.tagName") == "SELECT":
            control.select_option(value)
        else:
            control.fill(value)
        with self.page.expect_response(lambda response: _calls(response.request.post_data, "save_settings")):
            control.dispatch_event("change")
        self.page.keyboard.press("Escape")


def _calls(body: str | None, name: str) -> bool:
    return name in (body or "")


OpenTab = Callable[..., Tab]
