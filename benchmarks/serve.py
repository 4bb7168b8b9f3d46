"""Our server under load beside mlx_lm.server on the same folder, and its cost over the engine.

python benchmarks/serve.py [FOLDER] [--requests 40] [--rate 0.5]
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from openai.types.chat import ChatCompletionMessageParam
from rich.console import Console
from rich.table import Table

import magistral_mlx
from magistral_mlx import AnswerText, GenerationOptions, Message, ReasoningText, SamplingParams
from magistral_mlx.bench.bench_model import side_by_side
from magistral_mlx.bench.openai_server import (
    MLX_LM_SERVER,
    OURS,
    ChatClient,
    ServedAnswer,
    chat,
    served,
)
from magistral_mlx.bench.report_parts import json_line

SYSTEM = "Think first, between <think> and </think>, then answer."
ROUNDS = 10
"""Answers in turn with and without the server, for its overhead; the first round warms up."""

OVERHEAD_QUESTION, OVERHEAD_TOKENS = "What is 217 + 358?", 90


@dataclass(frozen=True, slots=True)
class Job:
    """One request: when it comes, its messages, and the most tokens of its answer."""

    arrival: float
    messages: list[ChatCompletionMessageParam]
    max_tokens: int


def main() -> None:
    """Measure, print tables, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="a converted model; default: the demo")
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0.5, help="requests per second")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        answer_bare(args.folder)
        return
    with side_by_side() as models:
        folder = args.folder or models.demo
        jobs = make_jobs(args.requests, args.rate)
        loads = {name: under_load(name, folder, jobs) for name in (OURS, MLX_LM_SERVER)}
        cost = overhead(folder)
    show(loads, cost)
    settings = {"requests": args.requests, "rate": args.rate, "uvicorn": version("uvicorn")}
    print(json_line("serve", {"load": loads, "overhead": cost} | settings))


def make_jobs(count: int, rate: float) -> list[Job]:
    """The same jobs in every run."""
    numbers = random.Random(7)
    jobs: list[Job] = []
    arrival = 0.0
    for _ in range(count):
        arrival += numbers.expovariate(rate)
        turns: list[str] = []
        for _ in range(numbers.choice((0, 0, 2, 8))):
            a, b = numbers.randrange(10, 99), numbers.randrange(10, 99)
            turns += [f"What is {a} + {b}?", f"The result is **{a + b}**."]
        turns.append(f"What is {numbers.randrange(100, 999)} + {numbers.randrange(100, 999)}?")
        jobs.append(Job(arrival, chat(SYSTEM, *turns), numbers.choice((16, 60, 160))))
    return jobs


def under_load(name: str, folder: Path, jobs: Sequence[Job]) -> dict[str, float]:
    """Throughput, and percentiles of time to first token and of gaps, in milliseconds."""
    with served(name, folder) as client:
        send(client, jobs[:2])  # warm up
        began = time.perf_counter()
        answers = send(client, jobs)
        seconds = time.perf_counter() - began
    outputs = [answer.output for answer in answers if answer.pieces]
    firsts = [1000 * output.wait for output in outputs]
    gaps = [1000 * gap for each in outputs for gap in each.gaps(each.submitted, each.last)]
    tokens = sum(answer.completion_tokens for answer in answers)
    figures = {"tokens": float(tokens), "tokens_per_second": tokens / seconds}
    for label, values in (("first", firsts), ("gap", gaps)):
        for percent in (50, 95, 99):
            # The smallest value that this percentage of the values does not exceed.
            figure = np.percentile(values, percent, method="inverted_cdf")
            figures[f"{label}_p{percent}"] = float(figure)
    print(name, figures, file=sys.stderr, flush=True)
    return figures


def send(client: ChatClient, jobs: Sequence[Job]) -> list[ServedAnswer]:
    """Send every job at its time, each from its own thread."""
    began = time.perf_counter()

    def one(job: Job) -> ServedAnswer:
        time.sleep(max(0.0, began + job.arrival - time.perf_counter()))
        return client.ask(job.messages, job.max_tokens)

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(one, jobs))


def overhead(folder: Path) -> dict[str, float]:
    """Milliseconds per token of one stream: the engine alone, and through the server, in turn."""
    command = [sys.executable, __file__, str(folder), "--bare"]
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": OVERHEAD_QUESTION}]
    with (
        served(OURS, folder) as client,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        ) as bare,
    ):
        assert bare.stdin is not None
        assert bare.stdout is not None
        alone, through = [], []
        for _ in range(ROUNDS):
            bare.stdin.write("go\n")
            bare.stdin.flush()
            alone.append(float(bare.stdout.readline()))
            answer = client.ask(messages, OVERHEAD_TOKENS)
            through.append(1000 / answer.output.decode_rate)
        bare.stdin.close()
    # Other programs only ever add time, so the least is closest to the truth.
    engine, server = min(alone[1:]), min(through[1:])
    medians = statistics.median(through[1:]) / statistics.median(alone[1:])
    return {
        "engine_ms": engine,
        "server_ms": server,
        "overhead_percent": 100 * (server / engine - 1),
        "median_overhead_percent": 100 * (medians - 1),
    }


def answer_bare(folder: Path) -> None:
    """For each line read, time one answer of the engine alone; print milliseconds per token."""
    options = GenerationOptions(sampling=SamplingParams(temperature=0), max_tokens=OVERHEAD_TOKENS)
    with magistral_mlx.open_model(folder) as model:
        for _ in sys.stdin:
            times = [
                time.perf_counter()
                for event in model.stream([Message("user", OVERHEAD_QUESTION)], options)
                if isinstance(event, AnswerText | ReasoningText)
            ]
            print(1000 * (times[-1] - times[0]) / (len(times) - 1), flush=True)


def show(loads: dict[str, dict[str, float]], cost: dict[str, float]) -> None:
    """Print both tables."""
    load, alone = Table("", *loads), Table("one stream", "")
    for row in loads[OURS]:
        load.add_row(row, *(f"{figures[row]:,.1f}" for figures in loads.values()))
    for name, value in cost.items():
        alone.add_row(name, f"{value:.2f}")
    Console().print(load, alone)


if __name__ == "__main__":
    main()
