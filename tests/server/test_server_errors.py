"""What is refused, and how the clients are told."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

import magistral_mlx
from magistral_mlx import Magistral
from magistral_mlx.server.answering.settings import ServerSettings
from tests.sample_checkpoints import write_hf
from tests.server.running_server import RunningServer, running_server

ASKED = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Magistral]:
    folder = write_hf(tmp_path_factory.mktemp("sample") / "Magistral-Small-2506-4bit")
    with magistral_mlx.open_model(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(model: Magistral) -> Iterator[RunningServer]:
    settings = ServerSettings(port=0, max_body_bytes=100_000, aliases=("gpt-x",), max_messages=50)
    with running_server(model, settings) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


def chat(http: httpx.Client, **fields: object) -> httpx.Response:
    body = {"model": "gpt-x", "messages": ASKED, "max_tokens": 2} | fields
    return http.post("/v1/chat/completions", json=body)


def error_of(response: httpx.Response) -> dict[str, object]:
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, object] = body["error"]
    return error


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 2}, "best_of"),
        ({"functions": []}, "functions"),
        ({"messages": [{"role": "user", "content": "Hi", "name": "x"}]}, "messages.0.name"),
        ({"stream_options": {"foo": 1}, "stream": True}, "stream_options.foo"),
        ({"tools": [{"type": "function", "function": {"name": "f", "x": 1}}]},
         "tools.0.function.x"),
    ],
)  # fmt: skip
def test_unknown_fields_are_refused_by_name(
    http: httpx.Client, fields: dict[str, object], param: str
) -> None:
    response = chat(http, **fields)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (422, "unknown_parameter")
    assert error["param"] == param
    assert param in str(error["message"])


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"temperature": "hot"}, 422, "temperature"),
        ({"temperature": -1}, 400, "temperature"),
        ({"top_p": 0}, 400, "top_p"),
        ({"seed": -3}, 400, "seed"),
        ({"max_tokens": 0}, 422, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 400, "max_tokens"),
        ({"n": 17}, 400, "n"),
        ({"top_logprobs": 2}, 400, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, 422, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, 400, "logit_bias"),
        ({"logit_bias": {"5000": 1}}, 400, "logit_bias"),
        ({"messages": []}, 422, "messages"),
        ({"messages": ASKED * 51}, 400, "messages"),
        ({"messages": [{"role": "god", "content": "x"}]}, 422, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 422, None),
        ({"thinking_budget": 5, "reasoning_effort": "low"}, 400, "thinking_budget"),
        ({"reasoning_effort": "extreme"}, 422, "reasoning_effort"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"min_tokens": 3}, 400, "min_tokens"),
        ({"repetition_penalty": 0}, 400, "repetition_penalty"),
        ({"logit_bias": {"1": 1e6}}, 400, "logit_bias"),
        ({"tool_choice": "required"}, 400, "tool_choice"),
        ({"ignore_eos": True, "response_format": {"type": "json_object"}}, 400, "ignore_eos"),
        ({"store": True}, 422, "store"),
        ({"response_format": {"type": "xml"}}, 422, "response_format"),
        ({"response_format": {"type": "json_schema",
                              "json_schema": {"name": "x", "schema": {"type": "no"}}}}, 400, None),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, 400, None),
        ({"messages": [{"role": "user", "content": "long " * 5000}]}, 400, None),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, None),
        ({"model": "\\\udfff \ud83d\ud83d\ude00"}, 400, None),
        ({"model": "\\ud800 \ud83d\ude00"}, 404, "model"),
        ({"temperature": float("nan")}, 400, "temperature"),
    ],
)  # fmt: skip
def test_values_that_are_not_possible_are_refused_with_their_field(
    http: httpx.Client, fields: dict[str, object], status: int, param: str | None
) -> None:
    body = {"model": "gpt-x", "messages": ASKED, "max_tokens": 2} | fields
    response = http.post(
        "/v1/chat/completions",
        content=json.dumps(body),
        headers={"content-type": "application/json"},
    )
    error = error_of(response)
    assert response.status_code == status, error
    assert error["type"] == "invalid_request_error"
    assert param is None or error["param"] == param, error
    assert response.headers["x-request-id"]


def test_the_hub_id_is_listed_and_any_of_the_names_is_taken(
    server: RunningServer, http: httpx.Client
) -> None:
    with openai.OpenAI(base_url=server.v1, api_key="x", max_retries=0) as client:
        [model] = client.models.list().data
        assert model.id == "mistralai/Magistral-Small-2506"
        assert client.models.retrieve(model.id) == model
        assert client.models.retrieve("Magistral-Small-2506-4bit").id == model.id
        with pytest.raises(openai.NotFoundError, match="no model 'gpt-4o'"):
            client.models.retrieve("gpt-4o")
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "x"}]
            )
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    for name in (model.id, "Magistral-Small-2506", "Magistral-Small-2506-4bit", "gpt-x"):
        response = chat(http, model=name)
        assert response.status_code == 200
        assert response.json()["model"] == model.id


def test_a_folder_of_another_name_is_listed_by_it(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "mine-4bit")
    with magistral_mlx.open_model(folder) as model, running_server(model) as server:
        assert httpx.get(f"{server.v1}/models").json()["data"][0]["id"] == "mine-4bit"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/health", 405)],
)
def test_paths_and_methods_that_are_not_there_are_told_in_the_same_shape(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    response = http.request(method, path)
    assert response.status_code == status
    assert error_of(response)["message"]
    assert status != 405 or response.headers["allow"]


def test_bodies_that_are_no_json_are_told_so(http: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    for content in (b"{", b"\xff\xfe{}", b'{"model": "\xc3"}', b"", b"null", b"[1]", b'"x"'):
        response = http.post("/v1/chat/completions", content=content, headers=headers)
        assert response.status_code in (400, 422)
        assert error_of(response)["message"]
    text = http.post("/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert text.status_code == 422  # so a web page's form cannot post to it without asking


def test_a_body_that_is_too_large_is_refused_while_it_comes(
    server: RunningServer, http: httpx.Client
) -> None:
    content = json.dumps({"model": "gpt-x", "messages": ASKED, "user": "x" * 200_000}).encode()
    declared = http.post(
        "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
    )
    assert (declared.status_code, error_of(declared)["code"]) == (413, "body_too_large")

    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 50_000_000:
            sent += 10_000
            yield b" " * 10_000

    try:
        chunked = httpx.post(f"{server.v1}/chat/completions", content=endless(), timeout=20)
        assert chunked.status_code == 413
    except httpx.TransportError:
        pass  # the connection was closed while we were still sending
    assert sent < 20_000_000


def test_deep_nesting_is_refused(http: httpx.Client) -> None:
    for depth, status in ((210, 400), (20_000, 400), (190, 422)):
        body = b'{"model": "gpt-x", "messages": ' + b"[" * depth + b"]" * depth + b"}"
        response = http.post(
            "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code == status
        assert (error_of(response)["code"] == "nesting_limit") == (status == 400)
    brackets = chat(http, messages=[{"role": "user", "content": '"' + "[" * 500 + '\\"{'}])
    assert brackets.status_code == 200


def test_request_ids_are_given_back_or_made(http: httpx.Client) -> None:
    given = http.get("/v1/models", headers={"x-request-id": "abc-1.2"})
    assert given.headers["x-request-id"] == "abc-1.2"
    for bad in ("a b", "x" * 200, "é", ""):
        made = http.get("/v1/models", headers={b"x-request-id": bad.encode("latin-1")})
        assert made.headers["x-request-id"].startswith("req_")
