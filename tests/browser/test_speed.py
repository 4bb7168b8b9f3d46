"""How soon the page shows what the engine has written, and how much work that is."""

import json
import logging
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.panels.settings import Settings
from magistral_mlx.app.runs.chain import Chain
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.events import Event, ReasoningText
from tests.browser.page_server import served_typist
from tests.browser.tab import OpenTab, Tab
from tests.terminal.typist import Typist

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.slow

FIRST_TEXT = """
() => {
  window.firstText = null;
  new MutationObserver(() => {
    const last = [...document.querySelectorAll(".reasoning .written")].at(-1);
    if (window.firstText === null && last?.textContent) window.firstText = Date.now() / 1000;
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}
"""
UPDATES = """
() => {
  window.updates = 0;
  window.longest = 0;
  const seen = () => { window.updates += 1; };
  for (const body of document.querySelectorAll(".reply .written")) {
    new MutationObserver(seen).observe(body, { childList: true, subtree: true });
  }
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
  }).observe({ type: "longtask" });
}
"""
PARAGRAPH = (
    "Let me see: $x^2 + 3x$ is **not** the same as `f(x)`, so I try the next number, and so on.\n"
    "- first one thing\n- then another\n\n"
)
CODE = "```python\n" + "total = sum(n * n for n in range(10))  # a line of code\n" * 8 + "```\n\n"


def test_the_first_token_is_on_the_page_within_150_ms(
    tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    take = Chain.take

    def noting(chain: Chain, event: Event) -> None:
        if isinstance(event, ReasoningText) and not chain.snapshot().reasoning:
            given.append(time.time())
        take(chain, event)

    monkeypatch.setattr(Chain, "take", noting)
    delays = []
    for number in range(5):
        tab.button("new_conversation").click()
        tab.page.evaluate(FIRST_TEXT)
        tab.ask(f"What is 12 + 3{number}?")
        delays.append(tab.page.evaluate("window.firstText") - given[-1])
    logger.info("seconds from engine to page: %s", sorted(round(delay, 3) for delay in delays))
    # Other work on the machine can only add to it.
    assert min(delays) < 0.15


@pytest.fixture
def typing_url(tmp_path: Path) -> Iterator[str]:
    """2,000 tokens in 8 seconds: formulas, lists and code."""
    typist = Typist((PARAGRAPH * 30)[:4_000], ((PARAGRAPH + CODE) * 12)[:4_000], pause=0.004)
    with served_typist(typist, tmp_path) as url:
        yield url


def test_2000_tokens_stream_smoothly(open_tab: OpenTab, typing_url: str) -> None:
    tab = open_tab(typing_url)
    devtools = tab.page.context.new_cdp_session(tab.page)
    # CPU time: on a machine with other work, time on the wall would count that too.
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy() -> float:
        metrics = devtools.send("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))

    tab.begin("Type.")
    expect(tab.reasoning).not_to_be_empty()
    tab.page.evaluate(UPDATES)
    before, begun = busy(), time.monotonic()
    tab.finish()
    wall, work = time.monotonic() - begun, busy() - before
    updates, longest = tab.page.evaluate("[window.updates, window.longest]")
    logger.info("%.1f updates/s, main thread %.0f %%", updates / wall, 100 * work / wall)
    assert 3 < updates / wall < 15
    assert work / wall < 0.3
    assert longest < 250


def test_the_end_of_a_long_answer_costs_no_more_than_its_beginning(
    open_tab: OpenTab, typing_url: str
) -> None:
    tab = open_tab(typing_url)
    sizes: list[int] = []
    tab.page.on(
        "response",
        lambda reply: (
            sizes.append(len(reply.body()))
            if '"watch"' in (reply.request.post_data or "")
            else None
        ),
    )
    tab.ask("Type.")
    assert len(sizes) > 20
    assert statistics.median(sizes[-20:-2]) < 5 * statistics.median(sizes[2:20])


WATCHER = """
import json, sys, urllib.request
url, component = sys.argv[1], int(sys.argv[2])
for conversation in sys.stdin:
    form, patch = {"conversation": conversation.strip(), "version": 0}, {"ended": False}
    while patch and not patch["ended"]:
        body = {"data": form, "component_id": component, "session_hash": "s", "fn_name": "watch"}
        request = urllib.request.Request(
            url + "gradio_api/component_server",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        patch = json.load(urllib.request.urlopen(request, timeout=60))["ok"]["patch"]
        form["version"] = patch["version"] if patch else 0
    print("ended", flush=True)
"""


def test_the_page_leaves_the_engine_its_speed(services: Services, url: str) -> None:
    """Rendering and sending, to a tab in another process: a browser would take cores too."""
    model, question = services.models.model(), "What is 345 - 189?"
    settings = Settings(temperature=0.0)
    with urllib.request.urlopen(url + "config") as reply:
        components = json.load(reply)["components"]
    component = next(each["id"] for each in components if each["type"] == "html")
    command = [sys.executable, "-c", WATCHER, url, str(component)]
    bare, shown = list[float](), list[float]()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdin is not None
        assert watcher.stdout is not None
        # Other work on the machine can only lower the speed: the best of each counts.
        while len(shown) < 3 or (len(shown) < 12 and max(shown) <= 0.95 * max(bare)):
            timings = model.generate(question, settings.options()).timings
            bare.append(timings.decode_tokens_per_second or 0.0)
            conversation = services.store.create_conversation("speed").id
            asked = services.store.add_message(
                StoredMessage(conversation=conversation, parent=None, role="user", content=question)
            )
            run = services.runs.start(model, asked.id, settings.options())
            watcher.stdin.write(conversation + "\n")
            watcher.stdin.flush()
            watcher.stdout.readline()
            assert run.join(10)
            shown.append(run.snapshot().chains[0].figures.tokens_per_second or 0.0)
        watcher.stdin.close()
    logger.info("tokens/s: bare %s, shown %s", bare, shown)
    assert max(shown) > 0.95 * max(bare)
