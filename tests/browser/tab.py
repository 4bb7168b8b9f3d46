"""A tab that shows the page, and what its user does in it."""

from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import FloatRect, Locator, Page, Response, expect

from magistral_mlx.app.panels.texts import load_texts

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
        """Send a question, and return when it is shown."""
        before = self.page.locator(".exchange").count()
        self.draft.fill(text)
        self.draft.press("Enter")
        expect(self.page.locator(".exchange")).to_have_count(before + 1)

    def ask(self, text: str) -> None:
        """Send a question, and wait for the whole answer."""
        self.begin(text)
        self.finish()

    def finish(self) -> None:
        """Wait until the answer is complete and its tools are there."""
        idle = self.page.locator(".page[data-busy=false]")
        expect(idle).to_be_attached(timeout=ANSWER_MS)
        tools = self.page.locator(".exchange").last.locator(".answer .tools button")
        expect(tools.first).to_be_attached(timeout=ANSWER_MS)

    def drawn(self) -> None:
        """Wait until the page is drawn."""
        expect(self.page.locator(".page[data-ready=true]")).to_be_attached(timeout=ANSWER_MS)

    def model_is_open(self) -> None:
        """Wait for the model."""
        state = self.page.locator("#model .state[data-state=ready]")
        expect(state).to_be_attached(timeout=ANSWER_MS)

    def reload(self) -> None:
        self.page.reload()
        self.drawn()
        self.model_is_open()

    def button(self, key: str, within: Locator | None = None, **fields: str) -> Locator:
        """The last button with the English words of that key."""
        name = load_texts("en")(key, **fields)
        within = within or self.page.locator("body")
        return within.get_by_role("button", name=name, exact=True).last

    def choose(self, key: str) -> None:
        """Choose an entry of the open menu."""
        name = load_texts("en")(key)
        self.page.get_by_role("menuitem", name=name, exact=True).click()

    def set(self, name: str, value: str) -> None:
        """Change a setting, in the panel, and close it."""
        self.button("settings").click()
        control = self.page.locator(f"#setting-{name}")
        if control.evaluate("control => control.tagName") == "SELECT":
            control.select_option(value)
        else:
            control.fill(value)
        with self.page.expect_response(_saves_settings):
            control.dispatch_event("change")
        self.page.keyboard.press("Escape")


def box(locator: Locator) -> FloatRect:
    """Where an element is on the page. It must be visible."""
    found = locator.bounding_box()
    assert found is not None
    return found


def _saves_settings(response: Response) -> bool:
    return "save_settings" in (response.request.post_data or "")


OpenTab = Callable[..., Tab]
