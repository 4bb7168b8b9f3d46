"""Keys, hosts, limits, disconnects: what keeps a server safe that is left running."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

import magistral_mlx
from magistral_mlx import Magistral
from magistral_mlx.errors import RequestError
from magistral_mlx.server.answering.settings import ServerSettings
from tests.sample_checkpoints import write_hf
from tests.server.running_server import RunningServer, running_server, wait_for

LONG = {
    "model": "sample",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 2_500,
    "ignore_eos": True,
    "temperature": 5,
    "stop": ["never said"],
}
REQUESTS = "magistral_mlx.server.requests"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Magistral]:
    with magistral_mlx.open_model(write_hf(tmp_path_factory.mktemp("x") / "sample")) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(model: Magistral) -> Iterator[RunningServer]:
    with running_server(model, ServerSettings(port=0, keep_alive=0.05)) as running:
        yield running


def post(server: RunningServer, key: str | None = None, **fields: object) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    body = LONG | {"max_tokens": 2} | fields
    return httpx.post(f"{server.v1}/chat/completions", json=body, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def keyed(model: Magistral) -> Iterator[RunningServer]:
    settings = ServerSettings(port=0, api_keys=("first", "second", "drîtte"), per_key=2)
    with running_server(model, settings) as running:
        yield running


def test_everything_but_health_asks_for_one_of_the_keys(keyed: RunningServer) -> None:
    paths = [path for path in keyed.app.openapi()["paths"] if path != "/health"]
    assert "/metrics" in paths
    for path in [*paths, "/openapi.json", "/nothing"]:
        for method in ("GET", "POST"):
            response = httpx.request(method, keyed.url + path, json={})
            assert response.status_code == 401
            assert response.headers["www-authenticate"]
            error = response.json()["error"]
            assert error["type"] == "authentication_error"
            assert ("code" in error) != path.startswith("/v1/messages")
    assert httpx.get(f"{keyed.url}/health").json() == {"status": "ok"}


def test_any_key_opens_in_any_of_the_ways_clients_send_it(keyed: RunningServer) -> None:
    url = f"{keyed.v1}/models"
    for headers in (
        {"authorization": "Bearer first"},
        {"authorization": "bearer drîtte".encode()},
        {"x-api-key": "first"},
    ):
        given = [(name.encode(), value if isinstance(value, bytes) else value.encode())
                 for name, value in headers.items()]  # fmt: skip
        assert httpx.get(url, headers=given).status_code == 200
    assert httpx.get(url, auth=("anybody", "first")).status_code == 200
    for wrong in ("Bearer firs", "Basic x", "first", "Bearer first second"):
        assert httpx.get(url, headers={"authorization": wrong}).status_code == 401
    client = openai.OpenAI(base_url=keyed.v1, api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError), client:
        client.models.list()


def test_a_key_has_its_own_limit_of_answers_at_once(keyed: RunningServer) -> None:
    def long(key: str) -> httpx.Response:
        return post(keyed, key, max_tokens=400)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(long, "first") for _ in range(2)]
        wait_for(lambda: keyed.service.admission.active == 2)
        refused = post(keyed, "first")
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "concurrency_limit"
        assert int(refused.headers["retry-after"]) >= 1
        assert post(keyed, "second").status_code == 200
        assert [answer.result().status_code for answer in running] == [200, 200]
    assert post(keyed, "first").status_code == 200


def test_listening_to_others_without_a_key_is_refused() -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "example.org"):
        with pytest.raises(RequestError, match="--api-key"):
            ServerSettings(host=host)
        ServerSettings(host=host, insecure=True)
        ServerSettings(host=host, api_keys=("x",))
    for host in ("127.0.0.1", "localhost", "::1", "127.8.0.1"):
        ServerSettings(host=host)
    with pytest.raises(RequestError, match="empty"):
        ServerSettings(api_keys=("",))


def test_only_its_own_names_are_served(server: RunningServer, model: Magistral) -> None:
    url = f"{server.v1}/models"
    for host, status in (
        ("127.0.0.1:1234", 200),
        ("localhost", 200),
        ("[::1]:80", 200),
        ("192.168.1.7:8000", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ):
        response = httpx.get(url, headers={"host": host})
        assert response.status_code == status, host
        assert status == 200 or "--allow-host" in response.json()["error"]["message"]
    allowed = ServerSettings(port=0, allowed_hosts=("my.example",))
    with running_server(model, allowed) as running:
        assert httpx.get(f"{running.v1}/models", headers={"host": "MY.example:1"}).is_success


def test_no_web_page_may_call_unless_it_is_named(server: RunningServer, model: Magistral) -> None:
    asks = {"origin": "https://page.example", "access-control-request-method": "POST"}
    off = httpx.options(f"{server.v1}/chat/completions", headers=asks)
    assert off.status_code == 405
    assert "access-control-allow-origin" not in off.headers
    settings = ServerSettings(port=0, cors_origins=("https://page.example",), api_keys=("k",))
    with running_server(model, settings) as running:
        on = httpx.options(f"{running.v1}/chat/completions", headers=asks)
        assert on.headers["access-control-allow-origin"] == "https://page.example"
        other = httpx.options(
            f"{running.v1}/chat/completions", headers=asks | {"origin": "https://evil.example"}
        )
        assert "access-control-allow-origin" not in other.headers
        refused = httpx.get(f"{running.v1}/models", headers={"origin": "https://page.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://page.example"


def test_a_full_queue_answers_429_with_a_time_to_come_back(model: Magistral) -> None:
    with running_server(model, ServerSettings(port=0, queue=8)) as server:
        with ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(lambda _: post(server, max_tokens=60), range(100)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        assert statuses.count(200) >= 16  # 8 run, 8 wait
        for answer in answers:
            if answer.status_code == 429:
                assert answer.json()["error"]["code"] == "queue_full"
                assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert server.service.admission.active == 0
        assert post(server).status_code == 200


def test_an_error_between_admission_and_response_frees_the_place(
    model: Magistral, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    with running_server(model, ServerSettings(port=0, queue=0)) as server:
        with monkeypatch.context() as patch:
            patch.setattr("magistral_mlx.server.openai.chat.ChatStream", fail)
            patch.setattr("magistral_mlx.server.openai.chat.chat_completion", fail)
            for stream in [False, True] * 6:  # more than there are places
                assert post(server, stream=stream).status_code == 500
        assert server.service.admission.active == 0
        wait_for(lambda: model.status.running == 0)
        assert post(server).status_code == 200


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_goes_away_ends_its_answer(
    server: RunningServer, model: Magistral, streamed: bool
) -> None:
    with httpx.Client(timeout=httpx.Timeout(60, read=1)) as http:
        body = LONG | {"stream": streamed}
        try:
            with http.stream("POST", f"{server.v1}/chat/completions", json=body) as response:
                next(response.iter_bytes())
        except httpx.ReadTimeout:
            assert not streamed
    wait_for(lambda: model.status.running == 0, seconds=5)
    wait_for(lambda: server.service.admission.active == 0, seconds=5)
    figures = httpx.get(f"{server.url}/metrics").text
    assert 'magistral_answers_total{reason="cancelled"}' in figures


def test_a_client_that_goes_away_while_its_prompt_is_read_ends_that(
    server: RunningServer, model: Magistral
) -> None:
    words = " ".join(str(number) for number in range(900))
    body = json.dumps(LONG | {"messages": [{"role": "user", "content": words}], "stream": True})
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\n"
            + f"content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        wait_for(lambda: server.service.admission.active == 1)
    wait_for(lambda: server.service.admission.active == 0 and model.status.running == 0, seconds=3)


def test_a_long_silence_is_filled_with_comments(server: RunningServer) -> None:
    words = " ".join(str(number) for number in range(800))
    body = LONG | {"messages": [{"role": "user", "content": words}], "max_tokens": 3}
    with httpx.stream(
        "POST", f"{server.v1}/chat/completions", json=body | {"stream": True}, timeout=60
    ) as response:
        text = "".join(response.iter_text())
    assert ": still working\n\n" in text.partition('"finish_reason":"length"')[0]
    assert text.endswith("data: [DONE]\n\n")


MANY_BYTES = {"logprobs": True, "top_logprobs": 10}


def open_stream(server: RunningServer) -> socket.socket:
    """A stream of more than the buffers hold, of which nothing is read yet."""
    server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", server.port))
    body = json.dumps(LONG | {"stream": True, "max_tokens": 400} | MANY_BYTES)
    raw.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\n"
        + f"content-length: {len(body)}\r\n\r\n{body}".encode()
    )
    return raw


def test_a_slow_reader_holds_up_nobody(model: Magistral) -> None:
    with running_server(model) as server, open_stream(server) as raw:
        wait_for(lambda: model.status.running == 1)
        assert post(server).status_code == 200
        wait_for(lambda: model.status.running == 0, seconds=60)  # although nothing was read
        assert server.service.admission.active == 1
        received = b""
        while b"[DONE]" not in received:
            received += raw.recv(65536)
    assert b'"finish_reason":"length"' in received


def test_a_client_that_reads_nothing_is_given_up(
    model: Magistral, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ServerSettings(port=0, stall_timeout=0.5)
    with running_server(model, settings) as server, open_stream(server):
        wait_for(lambda: server.service.admission.active == 1)
        wait_for(lambda: server.service.admission.active == 0, seconds=30)
    assert "A client read nothing for 0.5 seconds" in caplog.text


def test_a_body_that_does_not_arrive_is_given_up(model: Magistral) -> None:
    settings = ServerSettings(port=0, body_timeout=0.3)
    with running_server(model, settings) as server, socket.socket() as raw:
        raw.connect(("127.0.0.1", server.port))
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
        )
        assert raw.recv(1000).startswith(b"HTTP/1.1 408")


def test_an_answer_that_takes_too_long_is_cut_off(model: Magistral) -> None:
    with running_server(model, ServerSettings(port=0, request_timeout=1)) as server:
        began = time.monotonic()
        choice = post(server, max_tokens=2_500).json()["choices"][0]
        assert time.monotonic() - began < 5
        assert (choice["finish_reason"], choice["finish_detail"]) == ("length", "timeout")


def test_requests_leave_one_line_without_what_was_said(
    model: Magistral, caplog: pytest.LogCaptureFixture
) -> None:
    secret = [{"role": "user", "content": "my secret"}]
    with running_server(model) as silent, caplog.at_level(logging.INFO, logger=REQUESTS):
        post(silent, messages=secret, user="me")
        post(silent, model="nothing")
        wait_for(lambda: len(logged(caplog)) >= 2)
    # A line is written when the client has its answer already, so either may come first.
    good, bad = sorted(logged(caplog), key=lambda line: line["status"])
    assert good["status"] == 200
    assert (good["completion_tokens"], good["reason"], good["user"]) == (2, "length", "me")
    assert good["prompt_tokens"] > 2
    assert good["ms"] >= good["first_token_ms"] > 0
    assert bad["status"] == 404
    assert "secret" not in caplog.text


def test_prompts_are_written_down_where_that_was_asked_for(
    model: Magistral, caplog: pytest.LogCaptureFixture
) -> None:
    asked = [{"role": "user", "content": "not secret"}]
    settings = ServerSettings(port=0, log_prompts=True)
    with running_server(model, settings) as server, caplog.at_level(logging.INFO, logger=REQUESTS):
        post(server, messages=asked)
        wait_for(lambda: bool(logged(caplog)))
    assert logged(caplog)[0]["prompt"] == asked


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(r.getMessage()) for r in caplog.records if r.name == REQUESTS]


def test_figures_are_there_for_prometheus(model: Magistral) -> None:
    with running_server(model) as server:
        for _ in range(2):
            post(server, messages=[{"role": "user", "content": "count me " * 30}])
        httpx.get(f"{server.url}/made/up/{time.time()}")
        text = httpx.get(f"{server.url}/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    route = 'magistral_requests_total{route="/v1/chat/completions",status="200"}'
    assert lines[route] == "2.0"
    assert lines['magistral_tokens_total{kind="completion"}'] == "4.0"
    assert float(lines['magistral_tokens_total{kind="cached"}']) > 0
    assert lines['magistral_prefix_cache_requests_total{result="hit"}'] >= "1.0"
    assert lines["magistral_time_to_first_token_seconds_count"] == "2.0"
    assert float(lines["magistral_kv_stored_bytes"]) > 0
    assert (lines["magistral_up"], lines["magistral_running"]) == ("1.0", "0.0")
    assert "made/up" not in text


def test_while_the_model_loads_requests_are_told_to_come_back() -> None:
    with running_server(None) as server:
        health = httpx.get(f"{server.url}/health")
        assert (health.status_code, health.json()) == (503, {"status": "loading"})
        refused = post(server)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "loading")
        assert refused.headers["retry-after"]


def test_threads_do_not_grow_with_requests(server: RunningServer) -> None:
    post(server)

    async def many() -> list[int]:
        async with httpx.AsyncClient(timeout=60) as http:
            calls = [
                http.post(f"{server.v1}/chat/completions", json=LONG | {"max_tokens": 40})
                for _ in range(40)
            ]
            answers = asyncio.gather(*calls)
            counts = []
            while not answers.done():
                counts.append(threading.active_count())
                await asyncio.sleep(0.02)
            assert {answer.status_code for answer in answers.result()} == {200}
            return counts

    before = threading.active_count()
    assert max(asyncio.run(many())) <= before + 12
