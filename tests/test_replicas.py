"""Three servers behind nginx, as docs/deployment.md sets it up: one is killed under load."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from magistral_mlx.demo.random_model import write_random_model
from tests.rank_processes import PATIENCE, ROOT, free_ports, start
from tests.server.running_server import wait_for
from tests.test_ranks import SHAPE

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/opt/homebrew/bin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt install nginx-light)"),
]

AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/magistral.conf;
}}
"""


@dataclass(frozen=True)
class Fleet:
    """Where the proxy listens, and the three servers."""

    url: str
    servers: list["subprocess.Popen[str]"]
    ports: list[int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("replicas") / "small", SHAPE)


@pytest.fixture
def fleet(folder: Path, tmp_path: Path) -> Iterator[Fleet]:
    first = free_ports(4)
    ports = [first + 1, first + 2, first + 3]
    servers = [start(serve(folder, port), os.environ) for port in ports]
    try:
        for port in ports:
            wait_for(lambda port=port: answers(port), seconds=PATIENCE)  # type: ignore[misc]
        with nginx(tmp_path, first, ports):
            wait_for(lambda: answers(first), seconds=PATIENCE)
            yield Fleet(f"http://127.0.0.1:{first}", servers, ports)
    finally:
        for server in servers:
            server.kill()
            server.communicate()


def test_conversations_stay_with_their_replica_and_when_one_is_killed_everything_is_answered(
    fleet: Fleet,
) -> None:
    history = ["one two three four five six seven"] * 4
    for number in range(6):
        first = ask(fleet, number, history)
        again = ask(fleet, number, [*history, "and eight"])
        assert cached(again) >= 0.8 * prompt(first)
    # Other conversations are on other replicas, too.
    assert sum(served(port) > 0 for port in fleet.ports) > 1

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask_until_answered, fleet, n, stream=n % 2 == 0) for n in range(24)]
        wait_for(lambda: sum(one.done() for one in asked) >= 4, seconds=PATIENCE)
        fleet.servers[1].kill()
        tries = [one.result(timeout=PATIENCE) for one in asked]
    assert len(tries) == 24
    assert max(tries) <= 3
    # It is really gone, and the others go on without it.
    assert not answers(fleet.ports[1])
    assert all(ask_until_answered(fleet, n, stream=False) == 1 for n in range(6))


def ask(fleet: Fleet, conversation: int, texts: list[str]) -> dict[str, object]:
    """One whole answer. Everything but the last text is what was said before."""
    body = {
        "model": "small",
        "messages": [
            {"role": "user" if i % 2 == 0 else "assistant", "content": text}
            for i, text in enumerate([*texts, *(["go on"] if len(texts) % 2 == 0 else [])])
        ],
        "max_tokens": 4,
        "temperature": 0,
    }
    headers = {"X-Conversation-Id": f"conversation-{conversation}"}
    url = f"{fleet.url}/v1/chat/completions"
    answer = httpx.post(url, json=body, headers=headers, timeout=PATIENCE)
    answer.raise_for_status()
    found: dict[str, object] = answer.json()
    return found


def ask_until_answered(fleet: Fleet, conversation: int, *, stream: bool) -> int:
    """How many tries it took. A client tries again when a stream breaks off, or at a 5xx."""
    body = {
        "model": "small",
        "messages": [{"role": "user", "content": f"Question {conversation}"}],
        "max_tokens": 150,
        "stream": stream,
    }
    headers = {"X-Conversation-Id": f"conversation-{conversation}"}
    url = f"{fleet.url}/v1/chat/completions"
    for attempt in range(1, 6):
        try:
            answer = httpx.post(url, json=body, headers=headers, timeout=PATIENCE)
        except httpx.RemoteProtocolError:
            continue
        if answer.status_code == 200 and (not stream or "[DONE]" in answer.text):
            return attempt
        assert answer.status_code == 200 or answer.status_code >= 500, answer.text
        time.sleep(0.1)
    raise AssertionError("it was not answered")


def cached(answer: dict[str, object]) -> int:
    usage = answer["usage"]
    assert isinstance(usage, dict)
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def prompt(answer: dict[str, object]) -> int:
    usage = answer["usage"]
    assert isinstance(usage, dict)
    return int(usage["prompt_tokens"])


def served(port: int) -> float:
    """Answers that a replica has given."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return sum(float(n) for n in re.findall(r"^magistral_answers_total\{.*\} (\S+)$", text, re.M))


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.TransportError:
        return False


def serve(folder: Path, port: int) -> list[str]:
    options = ["--model", str(folder), "--port", str(port), "--no-page"]
    return [sys.executable, "-m", "magistral_mlx", "serve", *options]


@contextmanager
def nginx(folder: Path, port: int, replicas: list[int]) -> Iterator[None]:
    """nginx with the configuration of the documents, on other ports."""
    text = (ROOT / "docs" / "deployment" / "nginx.conf").read_text()
    for stands_for, used in zip((8000, 8001, 8002, 8003), (port, *replicas), strict=True):
        assert f"127.0.0.1:{stands_for}" in text
        text = text.replace(f"127.0.0.1:{stands_for}", f"127.0.0.1:{used}")
    (folder / "magistral.conf").write_text(text)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
    assert NGINX is not None
    process = start([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")], os.environ)
    try:
        yield
    finally:
        process.terminate()
        process.communicate()
