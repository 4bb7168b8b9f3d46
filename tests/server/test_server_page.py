"""The page at the server's root: behind the same key, over the same model, beside the API."""

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import magistral_mlx
from magistral_mlx.api import Magistral
from magistral_mlx.app.launch import page_app
from magistral_mlx.app.panels.services import Services, open_services
from magistral_mlx.errors import UserError
from magistral_mlx.server.answering.model_slot import ModelSlot
from magistral_mlx.server.answering.settings import ServerSettings
from magistral_mlx.server.app import create_app, create_service
from magistral_mlx.server.serving import GracefulServer, LatePage, listening_socket
from tests.sample_checkpoints import write_hf
from tests.server.running_server import wait_for

HTML = {"accept": "text/html,*/*"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Magistral]:
    folder = write_hf(tmp_path_factory.mktemp("x") / "sample")
    with magistral_mlx.open_model(folder, window=800) as model:
        yield model


@pytest.fixture(scope="module")
def services(model: Magistral) -> Iterator[Services]:
    with open_services(data_folder=None, open_model=magistral_mlx.open_model) as services:
        services.models.adopt(str(model.checkpoint.folder), model)
        yield services


@pytest.fixture(scope="module")
def page() -> LatePage:
    return LatePage()


@pytest.fixture(scope="module")
def url(model: Magistral, page: LatePage) -> Iterator[str]:
    settings = ServerSettings(port=0, api_keys=("secret",))
    service = create_service(ModelSlot(model), settings)
    server = GracefulServer(create_app(service, page=page), service)
    sock = listening_socket(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_the_page_comes_with_the_model_and_asks_for_the_servers_key(
    url: str, page: LatePage, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    key = ("anybody", "secret")
    early = httpx.get(url, headers=HTML, auth=key)
    assert early.status_code == 503
    assert "loading" in early.text
    page.app = page_app(services)
    refused = httpx.get(url, headers=HTML)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Basic")
    assert httpx.get(f"{url}/v1/models").headers["www-authenticate"] == "Bearer"
    with caplog.at_level(logging.INFO):
        shown = httpx.get(url, headers=HTML, auth=key)
        assert shown.status_code == 200
        assert "Magistral" in shown.text
        assert httpx.get(f"{url}/gradio_api/file=/etc/passwd", auth=key).status_code == 404
        # A line is written when the client has its answer already.
        wait_for(lambda: 404 in logged_statuses(caplog))
    assert 200 not in logged_statuses(caplog)  # the page's own calls are not written down


def logged_statuses(caplog: pytest.LogCaptureFixture) -> list[int]:
    lines = [r.getMessage() for r in caplog.records if r.name.endswith("requests")]
    return [json.loads(line)["status"] for line in lines]


def test_the_api_stays_where_it_is(url: str) -> None:
    bearer = {"authorization": "Bearer secret"}
    assert httpx.get(f"{url}/v1/models", headers=bearer).json()["data"][0]["id"] == "sample"
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    unknown = httpx.get(f"{url}/v1/nothing", headers=bearer)
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "invalid_request_error")
    assert httpx.get(f"{url}/v1/chat/completions", headers=bearer).status_code == 405


def test_the_model_of_a_server_is_not_the_pages_to_change(
    services: Services, model: Magistral, tmp_path: Path
) -> None:
    other = write_hf(tmp_path / "other")
    with pytest.raises(UserError, match="Other clients use sample too"):
        services.models.open(str(other))
    assert services.models.model() is model
    assert model.status.alive
