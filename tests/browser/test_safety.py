"""Neither what the model writes nor what a stranger asks for does harm."""

import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Request, expect

from tests.browser.page_server import served_typist
from tests.browser.tab import OpenTab, Tab
from tests.terminal.typist import Typist

pytestmark = pytest.mark.slow

HOSTILE = """Look: <script>window.hurt = 1</script> <img src=x onerror="window.hurt = 2">

[a link](javascript:window.hurt=3) [another](JaVaScRiPt:window.hurt=3) <javascript:window.hurt=4>
![a picture](https://images.example/track.png) [good](https://example.org/a)
[data](data:text/html;base64,PHNjcmlwdD4x)

<iframe src="https://frames.example/"></iframe><style>body { display: none }</style>

$\\text{<img src=x onerror=window.hurt=5>}$ and \\(\\href{javascript:window.hurt=6}{x}\\)

```html"><img src=x onerror=window.hurt=7>
<script>window.hurt = 8</script>
```

| a | <b onclick="window.hurt = 9">b</b> |
|---|---|
| <svg onload="window.hurt = 10"> | ok |
"""


@pytest.fixture
def hostile_url(tmp_path: Path) -> Iterator[str]:
    with served_typist(Typist(HOSTILE, HOSTILE, pause=0.0005), tmp_path) as url:
        yield url


def test_hostile_output_is_shown_and_never_run(open_tab: OpenTab, hostile_url: str) -> None:
    tab = open_tab(hostile_url)
    asked: list[Request] = []
    tab.page.on("request", lambda request: asked.append(request))
    tab.ask(HOSTILE)
    for _ in ("streamed", "stored"):
        _check_harmless(tab)
        tab.reload()
    hosts = {re.sub(r"(https?://[^/]+).*", r"\1", request.url) for request in asked}
    assert {host for host in hosts if not host.startswith(("data:", "blob:"))} == {
        hostile_url.rstrip("/")
    }


def _check_harmless(tab: Tab) -> None:
    assert tab.page.evaluate("window.hurt") is None
    dangerous = "script, img, iframe, style, svg, object, embed, [onerror], [onload], [onclick]"
    for part in (tab.reasoning, tab.answer, tab.questions.last):
        assert part.locator(dangerous).count() == 0
        links = part.locator("a").evaluate_all("links => links.map((a) => [a.href, a.rel])")
        assert all(href.startswith("https://") for href, _ in links)
        assert all("noopener" in rel for _, rel in links)
    expect(tab.answer).to_contain_text("<script>window.hurt = 1</script>")
    expect(tab.answer.locator("a.image")).to_have_text("a picture")
    expect(tab.answer.locator(".code")).to_contain_text("<script>window.hurt = 8</script>")


def test_the_page_asks_no_other_host_for_anything(open_tab: OpenTab, url: str) -> None:
    tab = open_tab()
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.reload()
    tab.button("settings").click()
    tab.page.keyboard.press("Escape")
    assert len(asked) > 5
    foreign = [each for each in asked if not each.startswith((url, "data:", "blob:"))]
    assert foreign == []


def test_nothing_is_missing_and_no_script_fails(open_tab: OpenTab) -> None:
    tab = open_tab()
    problems: list[str] = []
    tab.page.on("pageerror", lambda error: problems.append(str(error)))
    tab.page.on(
        "console",
        lambda message: problems.append(message.text) if message.type == "error" else None,
    )
    tab.page.on(
        "response", lambda reply: problems.append(reply.url) if reply.status >= 400 else None
    )
    tab.reload()
    tab.ask("What is 12 + 30?")
    tab.page.locator("#model").click()
    assert problems == []


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=../../../../etc/passwd",
        "gradio_api/file=https://example.org/",
        "gradio_api/file/etc/passwd",
        "file=/etc/passwd",
        "gradio_api/proxy=https://example.org/",
        "gradio_api/upload_progress?upload_id=1",
        "gradio_api/info",
        "gradio_api/queue/data",
        "gradio_api/queue/status",
        "gradio_api/runs",
        "gradio_api/vibe-code/",
        "monitoring",
        "custom_component/1/client/component/index.js",
        "openapi.json",
        "docs",
    ],
)
def test_what_the_page_does_not_need_is_not_there(url: str, path: str) -> None:
    assert fetched(url + path)[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "assets/../../../../../../etc/passwd",
        "assets/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "assets//etc/passwd",
        "static/../../../../etc/passwd",
        "static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_served_folders(url: str, path: str) -> None:
    status, body = fetched(url + path)
    assert status in (200, 403, 404)
    assert b"root:" not in body


def fetched(url: str) -> tuple[int, bytes]:
    """Status and body of an address; its path is sent as it is."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()
