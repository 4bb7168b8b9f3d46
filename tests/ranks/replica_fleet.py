"""Three servers on this machine, for the proxies that docs/deployment.md puts before them."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.spec import HUB_ID
from tests.ranks.rank_processes import PATIENCE, ROOT, free_ports, start
from tests.ranks.test_ranks import SHAPE
from tests.server.running_server import wait_for


@dataclass(frozen=True)
class Fleet:
    """The servers, and a port that a proxy may have.

    model, key: what clients of the proxy send.
    """

    port: int
    ports: list[int]
    servers: list["subprocess.Popen[str]"]
    model: str
    key: str

    @property
    def url(self) -> str:
        """Of the proxy."""
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    def configuration(self, name: str) -> str:
        """A file of the documents, with these ports in the place of 8000 and following."""
        text = (ROOT / "docs" / "deployment" / name).read_text()
        for number, port in enumerate((self.port, *self.ports)):
            text = text.replace(f"127.0.0.1:{8000 + number}", f"127.0.0.1:{port}")
        assert all(f"127.0.0.1:{port}" in text for port in self.ports)
        return text


@contextmanager
def three_servers(scratch: Path, *, model: str = HUB_ID, key: str = "EMPTY") -> Iterator[Fleet]:
    """Ready, with random weights under the name of the real model; killed at the end."""
    folder = write_random_model(scratch / "Magistral-Small-2506", SHAPE)
    first = free_ports(4)
    ports = [first + 1, first + 2, first + 3]
    servers = [start(serve(folder, port), os.environ) for port in ports]
    try:
        for port in ports:
            wait_until_answers(port)
        yield Fleet(first, ports, servers, model, key)
    finally:
        for server in servers:
            server.kill()
            server.communicate()


def serve(folder: Path, port: int) -> list[str]:
    options = ["--model", str(folder), "--port", str(port), "--no-page"]
    return [sys.executable, "-m", "magistral_mlx", "serve", *options]


def kill_one_under_load(fleet: Fleet) -> list[int]:
    """How many tries each of 24 questions took."""
    with load(fleet, 24) as asked:
        wait_for(lambda: sum(one.done() for one in asked) >= 4, seconds=PATIENCE)
        fleet.servers[1].kill()
    assert not answers(fleet.ports[1])
    return [one.result() for one in asked]


@contextmanager
def load(fleet: Fleet, questions: int) -> Iterator[list[Future[int]]]:
    """So many questions, half of which stream, 12 at once; in the end all are answered."""
    with ThreadPoolExecutor(12) as pool:
        yield [
            pool.submit(ask_until_answered, fleet, number, stream=number % 2 == 0)
            for number in range(questions)
        ]


def ask_until_answered(
    fleet: Fleet, conversation: int, *, stream: bool = False, tokens: int = 150
) -> int:
    """How many tries it took. A client tries again when a stream breaks off, or at a 5xx."""
    body = {
        "model": fleet.model,
        "messages": [{"role": "user", "content": f"Question {conversation}"}],
        "max_tokens": tokens,
        "stream": stream,
    }
    for attempt in range(1, 6):
        try:
            answer = httpx.post(
                fleet.url, json=body, headers=headers(fleet, conversation), timeout=PATIENCE
            )
        except httpx.RemoteProtocolError:
            continue
        if answer.status_code == 200 and (not stream or is_whole(answer.text)):
            return attempt
        assert answer.status_code == 200 or answer.status_code >= 500, answer.text
        time.sleep(0.1)
    raise AssertionError("it was not answered")


def is_whole(stream: str) -> bool:
    return "[DONE]" in stream and '"error"' not in stream


def headers(fleet: Fleet, conversation: int) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {fleet.key}",
        "X-Conversation-Id": f"conversation-{conversation}",
    }


def served(fleet: Fleet) -> list[float]:
    """Whole answers that each replica has given."""
    pattern = r'^magistral_answers_total\{reason="(?!cancelled).*\} (\S+)$'
    texts = [httpx.get(f"http://127.0.0.1:{port}/metrics").text for port in fleet.ports]
    return [sum(float(n) for n in re.findall(pattern, text, re.M)) for text in texts]


def wait_until_answers(port: int, path: str = "/health") -> None:
    wait_for(lambda: answers(port, path), seconds=PATIENCE)


def answers(port: int, path: str = "/health") -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}").status_code == 200
    except httpx.TransportError:
        return False
