"""The same behind LiteLLM's proxy: each request goes where the fewest are under way."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.ranks.rank_processes import PATIENCE, ROOT
from tests.ranks.replica_fleet import (
    Fleet,
    ask_until_answered,
    headers,
    kill_one_under_load,
    load,
    served,
    three_servers,
    wait_until_answers,
)

LITELLM = ROOT / ".litellm" / "bin" / "litellm"
READY = ROOT / ".litellm" / ".ready"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not READY.is_file(), reason="LiteLLM is not installed (make litellm)"),
]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    key = f"sk-{secrets.token_hex(8)}"
    with (
        three_servers(tmp_path, model="magistral", key=key) as servers,
        litellm(servers, tmp_path),
    ):
        wait_until_answers(servers.port, "/health/liveliness")
        yield servers


def test_the_idle_replica_gets_the_next_request_and_when_one_is_killed_everything_is_answered(
    fleet: Fleet,
) -> None:
    with under_way(fleet), under_way(fleet):
        assert [ask_until_answered(fleet, n, tokens=4) for n in range(6)] == [1] * 6
        assert sorted(served(fleet)) == [0, 0, 6]
    before = served(fleet)
    with load(fleet, 12) as asked:
        pass
    assert [one.result() for one in asked] == [1] * 12
    assert all(now > then for now, then in zip(served(fleet), before, strict=True))

    tries = kill_one_under_load(fleet)
    assert len(tries) == 24
    assert max(tries) <= 3
    # It is really gone, and the others go on without it.
    assert all(ask_until_answered(fleet, n) == 1 for n in range(6))


@contextmanager
def under_way(fleet: Fleet) -> Iterator[None]:
    """An answer that has begun and goes on; the client leaves at the end."""
    body = {
        "model": fleet.model,
        "messages": [{"role": "user", "content": "Go on."}],
        "stream": True,
    }
    request = httpx.stream(
        "POST", fleet.url, json=body, headers=headers(fleet, 0), timeout=PATIENCE
    )
    with request as answer:
        lines = answer.iter_lines()  # is closed, and the answer with it, when nobody holds it
        assert '"delta"' in next(lines)
        yield


@contextmanager
def litellm(fleet: Fleet, folder: Path) -> Iterator[None]:
    """The proxy with the configuration of the documents, on other ports."""
    configuration = folder / "litellm.yaml"
    configuration.write_text(fleet.configuration("litellm.yaml"))
    with (folder / "litellm.log").open("w") as log:
        process = subprocess.Popen(
            [LITELLM, "--config", configuration, "--host", "127.0.0.1", "--port", str(fleet.port)],
            cwd=folder,
            env={
                **os.environ,
                "LITELLM_MASTER_KEY": fleet.key,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)
