"""Ranks that serve and ask: by mlx.launch as the documents say, and when one is late or lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from magistral_mlx.convert import ConversionOptions, convert, default_output
from magistral_mlx.demo.random_model import write_random_model
from tests.ranks.rank_processes import (
    PATIENCE,
    ROOT,
    free_ports,
    mlx_launch,
    outputs,
    rank_environment,
    ranks,
    start,
)
from tests.ranks.test_ranks import SHAPE
from tests.server.running_server import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CLI = [sys.executable, "-m", "magistral_mlx"]
PROMISED_SECONDS = 10.0
"""In which every open request has its error."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("ranks") / "small", SHAPE)


@pytest.fixture(scope="module")
def nano() -> Path:
    made = default_output("demo", bits=4)
    return made if made.is_dir() else convert("demo", options=ConversionOptions(rtn=True))


# MLX's ring raises when a process is gone, and waits for ever for one that has stopped.
@pytest.mark.parametrize(
    ("how", "split", "size"),
    [
        (signal.SIGKILL, "heads", 2),
        (signal.SIGSTOP, "heads", 2),
        (signal.SIGKILL, "layers", 2),
        (signal.SIGSTOP, "layers", 3),
    ],
)
def test_open_requests_get_an_error_and_all_ranks_end_when_one_dies_or_hangs(
    folder: Path, tmp_path: Path, how: signal.Signals, split: str, size: int
) -> None:
    with serving(folder, tmp_path, split=split, size=size) as (processes, url):
        streams = [Asked(url, stream=stream) for stream in (True, True, False)]
        wait_for(lambda: all(one.began for one in streams if one.stream), seconds=PATIENCE)
        wait_for(lambda: "magistral_running 3.0" in httpx.get(f"{url}/metrics").text)
        os.kill(processes[1].pid, how)
        lost = time.monotonic()
        for one in streams:
            one.thread.join(PATIENCE)
            assert f"Rank 1 of {size} is lost" in str(one.error), one.text
            assert one.ended - lost < PROMISED_SECONDS
        if how == signal.SIGSTOP:
            assert processes[1].poll() is None
            os.kill(processes[1].pid, signal.SIGCONT)
        assert all(process.wait(PATIENCE) != 0 for process in processes)


def test_the_others_end_when_rank_0_dies(folder: Path, tmp_path: Path) -> None:
    with serving(folder, tmp_path) as (processes, _):
        processes[0].kill()
        assert processes[1].wait(PATIENCE) == 1


def test_all_ranks_end_well_when_rank_0_is_stopped(folder: Path, tmp_path: Path) -> None:
    with serving(folder, tmp_path) as (processes, _):
        processes[0].terminate()
        assert [process.wait(PATIENCE) for process in processes] == [0, 0]


def test_a_rank_with_another_checkpoint_is_refused_on_all_ranks(
    folder: Path, tmp_path: Path
) -> None:
    other = write_random_model(tmp_path / "other", SHAPE, seed=1)
    with ranks([ask(folder), ask(other)], tmp_path) as processes:
        for process in processes:
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 2
            assert "Rank 1 has another checkpoint (other) than rank 0 (small)" in errors


def test_ranks_that_cannot_share_the_heads_are_refused_with_what_would_do(
    folder: Path, tmp_path: Path
) -> None:
    with ranks([ask(folder)] * 4, tmp_path) as processes:
        for process in processes:
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 2
            assert "between 4 ranks: use 2, 3 or 6." in errors


def test_rank_0_may_come_later_than_mlx_would_wait(folder: Path, tmp_path: Path) -> None:
    port = free_ports(3)
    late, early = [rank_environment(tmp_path, rank, 2, port=port) for rank in (0, 1)]
    first = start(ask(folder), early)
    try:
        time.sleep(17)  # MLX waits for 15 seconds
        second = start(ask(folder), late)
        answer = outputs([second, first])[0]
        assert json.loads(answer)["answer"] or json.loads(answer)["reasoning"]
    finally:
        first.kill()


def test_mlx_launch_runs_ask_as_written_and_the_reply_is_that_of_one_process(
    nano: Path,
) -> None:
    question = ["ask", "What is 12 + 30?", "--model", str(nano), "--temperature", "0", "--json"]
    alone = subprocess.run(
        [*CLI, *question], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    launched = mlx_launch(*question)
    assert said(launched.stdout) == said(alone.stdout)
    assert "42" in said(alone.stdout)["answer"]


def said(output: str) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(output)
    return {name: reply[name] for name in ("reasoning", "answer", "finish_reason")}


def ask(folder: Path) -> list[str]:
    return [*CLI, "ask", "What?", "--model", str(folder), "--max-tokens", "8", "--json"]


class Asked:
    """A request on a thread of its own."""

    def __init__(self, url: str, *, stream: bool) -> None:
        self.stream = stream
        self.text = ""
        self.error: object = None
        self.ended = 0.0
        self.thread = threading.Thread(target=self._run, args=(url,), daemon=True)
        self.thread.start()

    @property
    def began(self) -> bool:
        return '"delta"' in self.text

    def _run(self, url: str) -> None:
        body = {
            "model": "small",
            "messages": [{"role": "user", "content": "Go on."}],
            "stream": self.stream,
        }
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=PATIENCE) as got:
            for line in got.iter_lines():
                self.text += line
                if '"error"' in line:
                    self.error = json.loads(line.removeprefix("data: "))["error"]
        self.ended = time.monotonic()


@contextmanager
def serving(
    folder: Path, scratch: Path, *, split: str = "heads", size: int = 2
) -> Iterator[tuple[Sequence["subprocess.Popen[str]"], str]]:
    """Ranks with a server, ready."""
    port = free_ports(1)
    served = ["serve", "--model", str(folder), "--port", str(port), "--no-page", "--split", split]
    command = [*CLI, *served]
    url = f"http://127.0.0.1:{port}"
    with ranks([command] * size, scratch) as processes:
        wait_for(lambda: is_ready(url), seconds=PATIENCE)
        yield processes, url


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False
