"""The page's scripts as the browser gets them, and what they take for granted of the server."""

import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.resources import files
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from magistral_mlx.app.launch import Address, create_app
from magistral_mlx.app.page import server_functions
from magistral_mlx.app.panels.services import Services, open_services
from magistral_mlx.app.scripts import load_scripts, version_of
from tests.terminal.typist import Typist, as_magistral

HERE = "http://127.0.0.1:7860"
SCRIPTS = load_scripts()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    typist = Typist("Thinking.", "**42**")
    with open_services(
        data_folder=None, open_model=lambda choice: as_magistral(typist), state_folder=tmp_path
    ) as services:
        yield services


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services, Address()), base_url=HERE) as client:
        yield client


def imported(module: bytes) -> set[str]:
    return set(re.findall(r'^(?:import|\}) [^"]*from "\./([\w.]+)";$', module.decode(), re.M))


def test_the_page_loads_its_first_module_from_here(client: TestClient) -> None:
    components = client.get("/config").json()["components"]
    loader = next(each["props"]["js_on_load"] for each in components if each["type"] == "html")
    [path] = re.findall(r'import\(new URL\("(scripts/[0-9a-f]{16}/page\.js)"', loader)
    assert client.get(f"/{path}").content == SCRIPTS.modules["page.js"]


def test_modules_come_as_javascript_that_browsers_may_keep(client: TestClient) -> None:
    for name, module in SCRIPTS.modules.items():
        reply = client.get(f"/{SCRIPTS.path(name)}")
        assert reply.content == module
        assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
        assert reply.headers["cache-control"] == "max-age=31536000, immutable"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "script-src 'self' " in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "scripts/0000000000000000/page.js",
        SCRIPTS.path("nothing.js"),
        SCRIPTS.path("types.d.ts"),
        SCRIPTS.path("tsconfig.json"),
        SCRIPTS.path("..%2fpage.js"),
        SCRIPTS.path("../../../pyproject.toml"),
        "scripts/",
    ],
)
def test_no_other_file_and_no_other_version_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/{path}").status_code == 404


def test_the_version_changes_with_any_module() -> None:
    versions = {SCRIPTS.version}
    for name, module in SCRIPTS.modules.items():
        changed = {**SCRIPTS.modules, name: module + b"\n"}
        versions.add(version_of(changed))
    assert len(versions) == len(SCRIPTS.modules) + 1


def test_modules_import_each_other_by_file_and_never_in_a_circle() -> None:
    graph = {name: imported(module) for name, module in SCRIPTS.modules.items()}
    assert set().union(*graph.values()) == set(SCRIPTS.modules) - {"page.js"}, "each is used"
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_each_module_says_first_what_it_is_for_and_touches_no_global() -> None:
    for name, module in SCRIPTS.modules.items():
        text = module.decode()
        assert re.match(r"// \w.+\.\n\n", text), name
        assert not re.search(r"\b(?:window|globalThis)\.\w+ =", text), name
        assert len(text.splitlines()) <= 300, name


def test_the_types_name_the_calls_that_the_server_offers(services: Services) -> None:
    folder = files("magistral_mlx.app") / "assets" / "scripts"
    types = (folder / "types.d.ts").read_text(encoding="utf-8")
    calls = re.search(r"interface Calls \{\n(.*?)\n\}", types, re.S)
    assert calls is not None
    typed = re.findall(r"^  (\w+): Call<", calls[1], re.M)
    assert sorted(typed) == sorted(call.__name__ for call in server_functions(services))
