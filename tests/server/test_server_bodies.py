"""Bodies made to be slow: each is refused in time proportional to its size, and briefly."""

import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

import magistral_mlx
from tests.sample_checkpoints import write_hf
from tests.server.running_server import RunningServer, running_server

MB = 1_000_000
HEAD = b'{"model": "sample", "messages": '

BODIES = {
    "escaped quotes without an end": lambda size: b'"' + rb"\"" * (size // 2),
    "a string without an end": lambda size: HEAD + b'"' + b"x" * size,
    "open brackets": lambda size: b"[" * size,
    "open objects": lambda size: b'{"a":' * (size // 5),
    "empty lists": lambda size: HEAD + b"[" + b"[]," * (size // 3) + b"[]]}",
    "wrong list elements": lambda size: HEAD + b"[" + b"1," * (size // 2) + b"1]}",
    "wrong elements below the limit": lambda size: HEAD + b"[" + b"12," * (size // 3) + b"1]}",
    "unknown fields": lambda size: b"{%s}" % b",".join(b'"%06d":1' % n for n in range(size // 12)),
    "wrong biases": lambda size: (
        b'{"model": "sample", "messages": [], "logit_bias": {%s}}'
        % b",".join(b'"%06d":""' % n for n in range(size // 14))
    ),
    "one long unknown field": lambda size: b'{"%s": 1}' % (b"x" * size),
    "a long model name": lambda size: (
        b'{"model": "%s", "messages": [{"role": "user", "content": ""}]}' % (b"x" * size)
    ),
    "many short messages": lambda size: (
        HEAD + b"[%s]}" % b",".join([b'{"role":"user","content":""}'] * (size // 29))
    ),
    "a long number": lambda size: b"1" * size,
    "backslashes": lambda size: HEAD + b'"' + b"\\" * size,
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = write_hf(tmp_path_factory.mktemp("x") / "sample")
    with magistral_mlx.open_model(folder) as model, running_server(model) as running:
        yield running


def post(server: RunningServer, body: bytes) -> tuple[float, bytes]:
    """Seconds of this process, and the whole answer; a raw socket takes few of them."""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        began = time.process_time()
        raw.sendall(head.encode() + body)
        answer = b""
        while piece := raw.recv(65_536):
            answer += piece
        return time.process_time() - began, answer


def quickest(server: RunningServer, body: bytes) -> float:
    return min(post(server, body)[0] for _ in range(3))


@pytest.mark.parametrize("name", BODIES)
def test_bodies_made_to_be_slow_are_refused_in_time_and_in_few_words(
    server: RunningServer, name: str
) -> None:
    answers = [post(server, BODIES[name](size)) for size in (MB, 2 * MB)]
    for seconds, answer in answers:
        head, _, text = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 4"), head
        assert len(text) < 5_000
        assert json.loads(text)["error"]["message"]
        assert seconds < 2
    once, twice = (quickest(server, BODIES[name](size)) for size in (MB, 2 * MB))
    assert twice < 3 * once + 0.1


@pytest.mark.parametrize("name", BODIES)
def test_health_answers_while_a_large_body_is_refused(server: RunningServer, name: str) -> None:
    body = BODIES[name](16 * MB - 200)
    waits = min((waits_during(server, body) for _ in range(3)), key=max)
    assert max(waits) < 0.2, waits


def waits_during(server: RunningServer, body: bytes) -> list[float]:
    """Seconds that /health takes, again and again, until the body is answered."""
    waits: list[float] = []
    answers: list[bytes] = []
    sender = threading.Thread(target=lambda: answers.append(post(server, body)[1]))
    with httpx.Client(base_url=server.url) as http:
        http.get("/health")
        sender.start()
        while sender.is_alive() or not waits:
            # Of this process, in which client and server run: other programs do not count.
            began = time.process_time()
            assert http.get("/health").status_code == 200
            waits.append(time.process_time() - began)
    assert answers[0].startswith(b"HTTP/1.1 4")
    return waits
