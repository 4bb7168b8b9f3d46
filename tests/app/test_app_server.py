"""The page's server as other programs find it: what it answers, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from magistral_mlx.app.hosts import is_loopback
from magistral_mlx.app.launch import (
    Address,
    check_address,
    create_app,
    page_app,
    parse_auth,
)
from magistral_mlx.app.panels.services import Services, open_services
from magistral_mlx.errors import UserError
from tests.terminal.typist import Typist, as_magistral

HERE = "http://127.0.0.1:7860"
CALL = "/gradio_api/component_server"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    typist = Typist("Thinking.", "**42**")
    with open_services(
        data_folder=None, open_model=lambda choice: as_magistral(typist), state_folder=tmp_path
    ) as services:
        services.models.open("demo")
        yield services


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services, Address()), base_url=HERE) as client:
        yield client


def called(client: TestClient, name: str, form: object, **headers: str) -> dict[str, object]:
    """What the script gets when it calls a function of the server."""
    config = client.get("/config").json()
    component = next(each["id"] for each in config["components"] if each["type"] == "html")
    body = {"data": form, "component_id": component, "session_hash": "s", "fn_name": name}
    answer = client.post(CALL, json=body, headers=headers)
    if answer.status_code != 200:
        return {"status": answer.status_code}
    result: dict[str, object] = answer.json()
    return result


def test_a_conversation_is_begun_listed_and_deleted(client: TestClient, services: Services) -> None:
    sent = called(client, "send", {"text": "What is 12 + 30?"})["ok"]
    assert isinstance(sent, dict)
    run = services.runs.of(sent["conversation"])
    assert run is None or run.join(5)
    listed = called(client, "search", {"text": "42"})["ok"]
    assert isinstance(listed, dict)
    assert [each["title"] for each in listed["conversations"]] == ["What is 12 + 30?"]
    called(client, "delete_conversation", {"conversation": sent["conversation"]})
    assert called(client, "search", {})["ok"] == {"conversations": []}


@pytest.mark.parametrize(
    ("name", "form", "error"),
    [
        ("send", {"text": "  "}, "The message is empty: write something or attach a file."),
        ("send", {"text": 7}, "text: Input should be a valid string."),
        ("send", {"text": "x", "chains": 9}, "chains: "),
        ("send", {"text": "x", "path": "/etc/passwd"}, "path: Extra inputs are not permitted."),
        ("show", {"conversation": "nope"}, ""),
        ("attach", {"name": "x", "data": "%%"}, "The file arrived damaged"),
        ("convert", {"source": "", "bits": 4}, "source: "),
    ],
)
def test_wrong_input_is_answered_in_one_sentence(
    client: TestClient, name: str, form: object, error: str
) -> None:
    answer = called(client, name, form)
    assert str(answer.get("error", "")).startswith(error)
    assert "ok" not in answer
    assert "\n" not in str(answer["error"])


def test_only_functions_that_were_offered_can_be_called(client: TestClient) -> None:
    for name in ("get_config", "preprocess", "push_to_hub", "__init__"):
        assert called(client, name, {}) == {"status": 404}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_scripts_of_other_sites_cannot_call(client: TestClient, headers: dict[str, str]) -> None:
    assert called(client, "search", {}, **headers) == {"status": 403}
    assert called(client, "search", {}, origin=HERE) == {"ok": {"conversations": []}}


def test_a_name_that_leads_here_from_elsewhere_is_refused(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"host": "localhost:7860"}).status_code == 200


def test_nothing_can_be_uploaded_or_read(client: TestClient) -> None:
    uploaded = client.post("/gradio_api/upload", files={"files": ("x.txt", b"x")})
    assert uploaded.status_code == 404
    for path in ("/etc/passwd", "../../etc/passwd", str(Path(__file__).resolve())):
        assert client.get(f"/gradio_api/file={path}").status_code == 404


def test_the_page_may_load_from_nowhere_else_and_stand_in_no_frame(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_password_is_asked_for_before_anything_is_shown(services: Services) -> None:
    address = Address("0.0.0.0", 7860, ("ada", "correct-horse"))
    with TestClient(create_app(services, address), base_url=HERE) as client:
        assert client.get("/config").status_code == 401
        body = {"data": {}, "component_id": 1, "session_hash": "s", "fn_name": "search"}
        assert client.post(CALL, json=body).status_code == 401
        wrong = client.post("/login", data={"username": "ada", "password": "no"})
        assert wrong.status_code == 400
        right = client.post("/login", data={"username": "ada", "password": "correct-horse"})
        assert right.status_code == 200
        assert client.get("/config").status_code == 200


def test_the_page_leaves_other_routes_of_a_server_alone(services: Services) -> None:
    app = FastAPI()

    @app.post("/v1/echo")
    def echo() -> str:
        return "echo"

    app.mount("/", page_app(services))
    with TestClient(app, base_url=HERE) as client:
        foreign = {"origin": "https://app.example"}
        assert client.post("/v1/echo", headers=foreign).json() == "echo"
        assert client.get("/").status_code == 200
        assert client.get("/gradio_api/file=/etc/passwd").status_code == 404


def test_listening_for_others_needs_a_password() -> None:
    check_address(Address("127.0.0.1"))
    check_address(Address("0.0.0.0", auth=("a", "b")))
    with pytest.raises(UserError, match="--auth USER:PASSWORD"):
        check_address(Address("0.0.0.0"))
    with pytest.raises(UserError, match=r"--host mac\.local"):
        check_address(Address("mac.local"))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[(host, True) for host in ("localhost", "LOCALHOST.", "127.0.0.1", "127.1.2.3", "::1")],
        *[(host, False) for host in ("0.0.0.0", "::", "192.168.1.4", "mac.local")],
    ],
)
def test_which_hosts_are_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_user_and_password_are_both_needed() -> None:
    assert parse_auth(None) is None
    assert parse_auth("ada:a:b") == ("ada", "a:b")
    for text in ("ada", "ada:", ":b"):
        with pytest.raises(UserError, match="--auth"):
            parse_auth(text)


def test_the_url_is_one_that_a_browser_opens() -> None:
    assert Address().url == "http://127.0.0.1:7860/"
    assert Address("0.0.0.0", 80).url == "http://localhost:80/"
    assert Address("::1", 80).url == "http://[::1]:80/"
