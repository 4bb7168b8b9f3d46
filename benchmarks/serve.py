"""The server under load beside mlx_lm.server on the same folder, and its cost over the engine.

    python benchmarks/serve.py [FOLDER] [--requests 40] [--rate 0.5]

Requests arrive at random (Poisson), the same ones at the same moments for both servers, one server
after the other. Prompts and answers are short and long. Everything is greedy, so both have the same
work. Gaps are between chunks that carry text, as the client sees them. Without a folder it is the
nano, written in the type that both compute in: on the CPU, mlx-lm would be slow in bfloat16
for no reason of its own.
"""

import argparse
import asyncio
import json
import math
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table
from side_by_side.models import temporary_models

import magistral_mlx
from magistral_mlx import AnswerText, GenerationOptions, Message, ReasoningText, SamplingParams

OURS, THEIRS = "magistral-mlx", "mlx_lm.server"
SYSTEM = "Think first, between <think> and </think>, then answer."
ROUNDS = 10
"""Answers in turn with and without the server, for its overhead."""

OVERHEAD_TOKENS = 90


@dataclass(frozen=True, slots=True)
class Job:
    """One request: when it comes, its messages, and the most tokens of its answer."""

    arrival: float
    messages: list[dict[str, str]]
    max_tokens: int


@dataclass(slots=True)
class Seen:
    """What the client saw of one answer: when it asked, and when text came."""

    asked: float
    pieces: list[float] = field(default_factory=list)
    tokens: int = 0


def main() -> None:
    """Measure, print tables, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="a converted model; the nano if none")
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0.5, help="requests a second")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bare:
        answer_bare(asked.folder)
        return
    with temporary_models() as models:
        measure(asked.folder or models.nano, asked.requests, asked.rate)


def measure(folder: Path, requests: int, rate: float) -> None:
    """Both servers under the same load, then ours beside the bare engine."""
    jobs = make_jobs(requests, rate)
    loads = {name: under_load(name, folder, jobs) for name in (OURS, THEIRS)}
    cost = overhead(folder)
    show(loads, cost)
    machine = {"machine": platform.platform(), "date": date.today().isoformat()}
    packages = {name: version(name) for name in ("mlx", "mlx-lm", "uvicorn")}
    asked_for = {"requests": requests, "rate": rate}
    print(json.dumps({"load": loads, "overhead": cost} | asked_for | machine | packages))


def make_jobs(count: int, rate: float) -> list[Job]:
    """The same jobs whenever it is called."""
    numbers = random.Random(7)
    jobs: list[Job] = []
    arrival = 0.0
    for _ in range(count):
        arrival += numbers.expovariate(rate)
        messages = [{"role": "system", "content": SYSTEM}]
        for _ in range(numbers.choice((0, 0, 2, 8))):
            a, b = numbers.randrange(10, 99), numbers.randrange(10, 99)
            messages.append({"role": "user", "content": f"What is {a} + {b}?"})
            messages.append({"role": "assistant", "content": f"The result is **{a + b}**."})
        question = f"What is {numbers.randrange(100, 999)} + {numbers.randrange(100, 999)}?"
        messages.append({"role": "user", "content": question})
        jobs.append(Job(arrival, messages, numbers.choice((16, 60, 160))))
    return jobs


def under_load(name: str, folder: Path, jobs: Sequence[Job]) -> dict[str, float]:
    """Throughput, and percentiles of time to first token and of gaps, in milliseconds."""
    with server(name, folder) as url:
        asyncio.run(send(url, folder, jobs[:2]))  # warm up
        began = time.perf_counter()
        seen = asyncio.run(send(url, folder, jobs))
        seconds = time.perf_counter() - began
    firsts = [1000 * (one.pieces[0] - one.asked) for one in seen if one.pieces]
    gaps = [
        1000 * (b - a) for one in seen for a, b in zip(one.pieces, one.pieces[1:], strict=False)
    ]
    tokens = sum(one.tokens for one in seen)
    figures = {"tokens": float(tokens), "tokens_per_second": tokens / seconds}
    for label, values in (("first", firsts), ("gap", gaps)):
        for percent in (50, 95, 99):
            figures[f"{label}_p{percent}"] = percentile(values, percent)
    print(name, figures, file=sys.stderr, flush=True)
    return figures


async def send(url: str, folder: Path, jobs: Sequence[Job]) -> list[Seen]:
    """Send every job at its time."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        began = time.perf_counter()

        async def one(job: Job) -> Seen:
            await asyncio.sleep(max(0.0, began + job.arrival - time.perf_counter()))
            return await answer(client, folder, job)

        return await asyncio.gather(*(one(job) for job in jobs))


async def answer(client: httpx.AsyncClient, folder: Path, job: Job) -> Seen:
    """One streamed answer."""
    body = {
        "model": str(folder),
        "messages": job.messages,
        "max_tokens": job.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    seen = Seen(time.perf_counter())
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if chunk.get("usage"):
                seen.tokens = chunk["usage"]["completion_tokens"]
            if any(has_text(choice["delta"]) for choice in chunk["choices"]):
                seen.pieces.append(time.perf_counter())
    return seen


def has_text(delta: dict[str, object]) -> bool:
    """Whether a chunk brings text of the model's."""
    return bool(delta.get("content") or delta.get("reasoning") or delta.get("reasoning_content"))


@contextmanager
def server(name: str, folder: Path) -> Iterator[str]:
    """A server in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    module = ["magistral_mlx", "serve"] if name == OURS else ["mlx_lm", "server"]
    more = ["--alias", str(folder), "--no-page"] if name == OURS else []
    command = [sys.executable, "-m", *module, "--model", str(folder), "--port", port, *more]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as running:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url)
            yield url
        finally:
            running.terminate()
            running.wait(timeout=60)


def wait_for(url: str) -> None:
    """Return when a server answers."""
    for _ in range(600):
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{url} does not answer.")


def overhead(folder: Path) -> dict[str, float]:
    """Milliseconds a token of one stream: the engine alone, and through the server, in turn."""
    command = [sys.executable, __file__, str(folder), "--bare"]
    job = Job(0, [{"role": "user", "content": "What is 217 + 358?"}], OVERHEAD_TOKENS)
    with (
        server(OURS, folder) as url,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        ) as bare,
    ):
        assert bare.stdin is not None
        assert bare.stdout is not None
        alone, served = [], []
        for _ in range(ROUNDS):
            bare.stdin.write("go\n")
            bare.stdin.flush()
            alone.append(float(bare.stdout.readline()))
            [seen] = asyncio.run(send(url, folder, [job]))
            served.append(1000 * (seen.pieces[-1] - seen.pieces[0]) / (len(seen.pieces) - 1))
        bare.stdin.close()
    # The first round warms up. Other programs only ever add time, so the least is the truest.
    engine, through = min(alone[1:]), min(served[1:])
    return {
        "engine_ms": engine,
        "server_ms": through,
        "overhead_percent": 100 * (through / engine - 1),
        "median_overhead_percent": 100
        * (statistics.median(served[1:]) / statistics.median(alone[1:]) - 1),
    }


def answer_bare(folder: Path) -> None:
    """For each line read, time one answer of the engine alone, and print milliseconds a token."""
    options = GenerationOptions(sampling=SamplingParams(temperature=0), max_tokens=OVERHEAD_TOKENS)
    with magistral_mlx.open_model(folder) as model:
        for _ in sys.stdin:
            times = [
                time.perf_counter()
                for event in model.stream([Message("user", "What is 217 + 358?")], options)
                if isinstance(event, AnswerText | ReasoningText)
            ]
            print(1000 * (times[-1] - times[0]) / (len(times) - 1), flush=True)


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def show(loads: dict[str, dict[str, float]], cost: dict[str, float]) -> None:
    """Print both tables."""
    console = Console()
    table = Table("", *loads)
    for row in loads[OURS]:
        table.add_row(row, *(f"{figures[row]:,.1f}" for figures in loads.values()))
    console.print(table)
    table = Table("one stream", "")
    for name, value in cost.items():
        table.add_row(name, f"{value:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
