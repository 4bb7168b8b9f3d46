"""The engine dies, a signal comes under load, the port is taken: nothing hangs."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import magistral_mlx
from magistral_mlx.engine.loop import EngineLoop
from magistral_mlx.engine.request import Request
from magistral_mlx.errors import EngineError
from magistral_mlx.terminal.cli import app
from tests.sample_checkpoints import write_hf
from tests.server.running_server import RunningServer, running_server, wait_for

LONG: dict[str, object] = {
    "model": "sample",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 3_000,
    "ignore_eos": True,
    "temperature": 5,
}


@contextmanager
def process(folder: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command line's server as a process of its own, and where it answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "magistral_mlx", "serve", "--no-page"]
    server = subprocess.Popen(
        [*command, "--model", str(folder), "--port", str(port), *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _healthy(url) or server.poll() is not None, seconds=60)
        yield server, url
    finally:
        server.kill()
        server.communicate()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def figures(url: str, *, key: str = "") -> str:
    return httpx.get(f"{url}/metrics", headers={"x-api-key": key}).text


def streamed(url: str, *, key: str = "", **fields: object) -> str:
    text = ""
    body = LONG | {"stream": True} | fields
    try:
        with httpx.stream(
            "POST",
            f"{url}/v1/chat/completions",
            json=body,
            headers={"x-api-key": key},
            timeout=60,
        ) as response:
            for piece in response.iter_text():
                text += piece
    except httpx.TransportError:
        text += "BROKEN"
    return text


# The thread is meant to die.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("stream", [False, True])
def test_when_the_engine_dies_health_says_so_and_every_request_gets_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    folder = write_hf(tmp_path / "sample")
    with magistral_mlx.open_model(folder) as model, running_server(model) as server:
        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(ask, server, stream=stream) for _ in range(12)]
            wait_for(lambda: model.status.running == 8)
            monkeypatch.setattr(EngineLoop, "_advance", _die)
            answers = [one.result(timeout=20) for one in asked]
        for status, text in answers:
            assert status == (200 if stream else 503)
            assert "engine_dead" in text
        health = httpx.get(f"{server.url}/health")
        assert (health.status_code, health.json()) == (503, {"status": "dead"})
        assert ask(server, stream=stream)[0] == 503
        assert "magistral_up 0.0" in httpx.get(f"{server.url}/metrics").text


def test_a_request_that_comes_after_a_rank_was_lost_is_told_of_it(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "sample")
    with magistral_mlx.open_model(folder) as model, running_server(model) as server:
        model.engine._loop._lose("Rank 1 of 2 is lost: its process has ended.")
        status, text = ask(server, stream=False)
        error = json.loads(text)["error"]
        assert (status, error["code"]) == (503, "engine_dead")
        assert error["message"].startswith("Rank 1 of 2 is lost: its process has ended. Restart")
        with pytest.raises(EngineError, match="Rank 1 of 2 is lost"):
            model.engine.submit(Request((1,)))


def ask(server: RunningServer, *, stream: bool) -> tuple[int, str]:
    response = httpx.post(
        f"{server.v1}/chat/completions", json=LONG | {"stream": stream}, timeout=60
    )
    return response.status_code, response.text


def _die(*_: object) -> None:
    raise SystemExit


def test_a_step_that_fails_is_told_and_the_server_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_hf(tmp_path / "sample")
    with magistral_mlx.open_model(folder) as model, running_server(model) as server:
        with monkeypatch.context() as patch:
            patch.setattr(EngineLoop, "_advance", _fail)
            status, text = ask(server, stream=False)
            assert (status, json.loads(text)["error"]["code"]) == (500, "model_failed")
            assert "data: [DONE]" not in ask(server, stream=True)[1]
        short = LONG | {"max_tokens": 3}
        assert httpx.post(f"{server.v1}/chat/completions", json=short).status_code == 200


def _fail(*_: object) -> None:
    raise RuntimeError("a kernel failed")


@pytest.mark.slow  # a process of its own takes ten seconds to start
def test_a_signal_lets_answers_finish_and_then_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGISTRAL_MLX_API_KEY", "one two")
    with process(write_hf(tmp_path / "sample"), "--grace", "60") as (server, url):
        for key, status in (("one", 200), ("two", 200), ("one two", 401)):
            asked = httpx.get(f"{url}/v1/models", headers={"x-api-key": key})
            assert asked.status_code == status
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(streamed, url, key="two", max_tokens=150) for _ in range(4)]
            wait_for(lambda: "running 4.0" in figures(url, key="one"))
            server.send_signal(signal.SIGTERM)
            for answer in answers:
                assert answer.result().endswith("data: [DONE]\n\n")
        _, log = server.communicate(timeout=20)
    assert server.returncode == 0, log
    assert "Traceback" not in log


@pytest.mark.slow
def test_what_is_not_finished_within_the_grace_is_ended_and_told(tmp_path: Path) -> None:
    with process(write_hf(tmp_path / "sample"), "--grace", "1") as (server, url):
        with ThreadPoolExecutor(12) as pool:
            answers = [pool.submit(streamed, url) for _ in range(12)]
            wait_for(lambda: "running 8.0" in figures(url))
            began = time.monotonic()
            server.send_signal(signal.SIGTERM)
            texts = [answer.result() for answer in answers]
        _, log = server.communicate(timeout=20)
    assert time.monotonic() - began < 12
    assert server.returncode == 0, log
    assert all('"shutting_down"' in text for text in texts)
    assert not any("BROKEN" in text for text in texts)


@pytest.mark.slow
def test_kv_is_saved_to_disk_when_a_signal_stops_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGISTRAL_MLX_CACHE", str(tmp_path / "cache"))
    folder = write_hf(tmp_path / "sample")
    content = " ".join(str(n) for n in range(300))
    asked = {"max_tokens": 2, "messages": [{"role": "user", "content": content}]}
    cached = []
    for name in ("sample", str(folder)):  # what it was started with is a name too
        asked["model"] = name
        with process(folder, "--kv-disk", "1GB") as (server, url):
            got = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=60).json()
            cached.append(got["usage"]["prompt_tokens_details"]["cached_tokens"])
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=20)
        assert server.returncode == 0
    assert cached[0] == 0
    assert cached[1] > 300


def test_what_cannot_be_served_is_told_in_a_line(tmp_path: Path) -> None:
    folder = str(write_hf(tmp_path / "sample"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for options, message in (
            (["--model", folder, "--port", port], "cannot listen on"),
            (["--model", folder, "--host", "0.0.0.0"], "--api-key"),
            (["--model", str(tmp_path / "none")], "There is no model"),
            (["--model", folder, "--port", "0", "--window", "99999"], "not possible"),
        ):
            done = CliRunner().invoke(app, ["serve", *options])
            assert done.exit_code == 2, done.output
            assert message in done.output.replace("\n", " ")
            assert "Traceback" not in done.output
