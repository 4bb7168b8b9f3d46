"""mlx-lm's server in a process of its own, and a client that notes when the first text comes."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class ChatReply:
    """Seconds until the first text; how many tokens the prompt had, and were not prefilled."""

    text: str
    first_text: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class ChatServer:
    """Where it listens."""

    port: int

    def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        logit_bias: Mapping[int, float],
    ) -> ChatReply:
        """A greedy answer, streamed."""
        body = {"messages": list(messages), "max_tokens": max_tokens, "temperature": 0}
        body |= {"logit_bias": {str(token): bias for token, bias in logit_bias.items()}}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        start = time.perf_counter()
        text, first = "", 0.0
        usage: dict[str, Any] = {}
        for chunk in self._stream("/v1/chat/completions", body):
            piece = chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
            if piece:
                first = first or time.perf_counter() - start
                text += piece
            usage = chunk.get("usage") or usage
        details = usage.get("prompt_tokens_details") or {}
        return ChatReply(
            text,
            first,
            usage["prompt_tokens"],
            details.get("cached_tokens", 0),
            usage["completion_tokens"],
        )

    @property
    def is_up(self) -> bool:
        """Whether it has loaded the model and answers."""
        connection = HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _stream(self, path: str, body: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        connection = HTTPConnection(HOST, self.port)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"mlx-lm's server says {response.read().decode()!r}.")
            for line in response:
                if line.startswith(b"data: {"):
                    yield json.loads(line.removeprefix(b"data: "))
        finally:
            connection.close()


@contextmanager
def mlx_lm_server(folder: Path, log: Path) -> Iterator[ChatServer]:
    """`mlx_lm.server` with its defaults, on a free port of this machine, offline."""
    server = ChatServer(_free_port())
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(folder)]
    command += ["--host", HOST, "--port", str(server.port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        _wait_until_up(server, process, log)
        yield server
    finally:
        process.terminate()
        process.wait()


def _wait_until_up(server: ChatServer, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not server.is_up:
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"mlx-lm's server did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])
