"""A browser, and the page with the demo model behind it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from magistral_mlx import Magistral, open_model
from magistral_mlx.app.panels.services import Services, open_services
from magistral_mlx.app.panels.settings import Settings, keep_settings
from tests.browser.page_server import served
from tests.browser.tab import OpenTab, Tab

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SHOTS = "MAGISTRAL_MLX_SHOTS"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("There is no chromium on the PATH, so the page cannot be tested in a browser.")
    expect.set_options(timeout=20_000)  # CI's machines have other things to do
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def demo() -> Iterator[Magistral]:
    with open_model("demo") as model:
        yield model


@pytest.fixture(scope="session")
def services(demo: Magistral, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """One store for all tests: each test begins its own conversation."""
    with open_services(
        data_folder=tmp_path_factory.mktemp("page"),
        open_model=lambda choice: demo,
        state_folder=tmp_path_factory.mktemp("page-state"),
    ) as services:
        services.models.open("demo")
        yield services


@pytest.fixture(scope="session")
def url(services: Services) -> Iterator[str]:
    with served(services) as url:
        yield url


@pytest.fixture
def open_tab(browser: Browser, url: str, services: Services) -> Iterator[OpenTab]:
    """Opens tabs of one user; each may have another size, language or colour scheme."""
    # Not the settings of the test before, and the same text each time.
    keep_settings(services.store, Settings(temperature=0.0))
    contexts: list[BrowserContext] = []

    def open_one(
        address: str = url,
        *,
        width: int = 1440,
        height: int = 900,
        locale: str = "en-US",
        dark: bool = False,
        beside: Tab | None = None,
        with_model: bool = True,
    ) -> Tab:
        if beside is not None:
            context = beside.page.context
        else:
            context = browser.new_context(
                viewport={"width": width, "height": height},
                locale=locale,
                color_scheme="dark" if dark else "light",
                accept_downloads=True,
                permissions=["clipboard-read", "clipboard-write"],
            )
            contexts.append(context)
        tab = Tab(context.new_page())
        tab.page.goto(address)
        tab.drawn()
        if with_model:
            tab.model_is_open()
        return tab

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def tab(open_tab: OpenTab) -> Tab:
    return open_tab()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: the folder named by the environment, or a temporary one."""
    folder = Path(os.environ.get(SHOTS) or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
