"""Three servers behind nginx, as docs/deployment.md sets it up: one is killed under load."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.ranks.rank_processes import PATIENCE, start
from tests.ranks.replica_fleet import (
    Fleet,
    ask_until_answered,
    headers,
    kill_one_under_load,
    served,
    three_servers,
    wait_until_answers,
)

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


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with three_servers(tmp_path) as servers, nginx(servers, tmp_path):
        wait_until_answers(servers.port)
        yield servers


def test_conversations_stay_with_their_replica_and_when_one_is_killed_everything_is_answered(
    fleet: Fleet,
) -> None:
    history = ["one two three four five six seven"] * 4
    for number in range(6):
        first = ask(fleet, number, history)
        again = ask(fleet, number, [*history, "and eight"])
        assert cached(again) >= 0.8 * prompt(first)
    # Other conversations are on other replicas, too.
    assert sum(count > 0 for count in served(fleet)) > 1

    tries = kill_one_under_load(fleet)
    assert len(tries) == 24
    assert max(tries) <= 3
    # It is really gone, and the others go on without it.
    assert all(ask_until_answered(fleet, n) == 1 for n in range(6))


def ask(fleet: Fleet, conversation: int, texts: list[str]) -> dict[str, object]:
    """One whole answer. Everything but the last text is what was said before."""
    body = {
        "model": fleet.model,
        "messages": [
            {"role": "user" if i % 2 == 0 else "assistant", "content": text}
            for i, text in enumerate([*texts, *(["go on"] if len(texts) % 2 == 0 else [])])
        ],
        "max_tokens": 4,
        "temperature": 0,
    }
    answer = httpx.post(
        fleet.url, json=body, headers=headers(fleet, conversation), timeout=PATIENCE
    )
    answer.raise_for_status()
    found: dict[str, object] = answer.json()
    return found


def cached(answer: dict[str, object]) -> int:
    usage = answer["usage"]
    assert isinstance(usage, dict)
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def prompt(answer: dict[str, object]) -> int:
    usage = answer["usage"]
    assert isinstance(usage, dict)
    return int(usage["prompt_tokens"])


@contextmanager
def nginx(fleet: Fleet, folder: Path) -> Iterator[None]:
    """nginx with the configuration of the documents, on other ports."""
    (folder / "magistral.conf").write_text(fleet.configuration("nginx.conf"))
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
    assert NGINX is not None
    process = start([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")], os.environ)
    try:
        yield
    finally:
        process.terminate()
        process.communicate()
