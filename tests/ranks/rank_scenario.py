"""Requests that use all of the engine, run by one process or by rank 0 of several."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.kv_budget import kv_budget
from magistral_mlx.engine.request import Request
from magistral_mlx.events import AnswerText, Finished
from magistral_mlx.kv.cache import KVPrecision
from magistral_mlx.options import OutputOptions
from magistral_mlx.ranks.division import Split
from magistral_mlx.ranks.joining import follow, lead
from magistral_mlx.ranks.launch import find_launch
from magistral_mlx.ranks.team import Team
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.guidance import JsonSchema, Regex
from magistral_mlx.text.tokenizer import Tokenizer
from tests.tiny_engine import Output, prompt, run, with_options

GREEDY = SamplingParams(temperature=0)


def main() -> None:
    """Print what comes out, and the peak of memory, as JSON; other ranks print their peak.

    Arguments: the model's folder, "all" or "one", where the time of steps is kept ("": they
    are not timed), and the layers of each rank, as 2,1, where they are divided.
    """
    checkpoint = open_checkpoint(Path(sys.argv[1]))
    launch = find_launch(os.environ)
    layers = [int(count) for count in sys.argv[4].split(",")] if sys.argv[4:] else []
    split: Split = "layers" if layers else "heads"
    if launch is not None and launch.rank > 0:
        try:
            follow(launch, checkpoint, split=split)
        finally:
            print_json({"peak": mx.get_peak_memory()})
    team = lead(launch, checkpoint, split=split) if launch else Team()
    team.divide(layers)
    budget = kv_budget(team.part_of(checkpoint.config), "float32", limit=None)
    engine = Engine(
        checkpoint,
        Tokenizer.open(checkpoint.tokenizer_file),
        window=700,
        max_running=4,
        prefill_tokens=32,
        # Room for four blocks: what outgrows them is paused.
        kv_bytes=4 * budget.needs(256, KVPrecision()),
        prefix_bytes=4 * budget.needs(256, KVPrecision()),
        costs_folder=Path(sys.argv[3]) if any(sys.argv[3:4]) else None,
        team=team,
    )
    loaded = mx.get_peak_memory()
    results = scenario(engine) if sys.argv[2] == "all" else {"one": tokens(one(engine))}
    engine.close()
    print_json({"loaded": loaded, "peak": mx.get_peak_memory(), **results})


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value))
    sys.stdout.flush()


def scenario(engine: Engine) -> dict[str, Any]:
    """Tokens and cached tokens of many requests, by what they are about."""
    batched = run(engine, *[ask(n, n) for n in (5, 40, 90)])
    paused = run(engine, *[ask(240, n, tokens=30) for n in (11, 12, 13, 14)])
    precisions = [KVPrecision(), KVPrecision(8), KVPrecision(4, 4)]
    quantised = run(engine, *[with_options(ask(50, 3), kv_precision=p) for p in precisions])
    sampled = SamplingParams(
        temperature=0.8, seed=5, presence_penalty=1, repetition_penalty=1.3, logit_bias={1500: 3.0}
    )
    ruled = run(engine, with_options(ask(20, 4), sampling=sampled), ask(20, 5))
    free = with_options(ask(20, 6), ignore_eos=False)
    schema = JsonSchema({"enum": ["one", "another"]})
    guided = run(
        engine,
        with_options(free, guidance=Regex("[a-f]{4,20}")),
        with_options(free, guidance=schema),
    )
    thinking = run(engine, replace(with_options(ask(20, 7), thinking_budget=8), state="reasoning"))
    logprobs = run(engine, with_options(ask(20, 8), logprobs=2))
    cancelled = cancel_one(engine)
    first = run(engine, ask(100, 9))
    ids = (*prompt(100, seed=9), *first[0].tokens)
    again = run(engine, replace(ask(1, 0), prompt=(*ids, 1001, 1002)))
    engine.prefill_when_idle(prompt(120, seed=10))
    idle = run(engine, replace(ask(1, 0), prompt=(*prompt(120, seed=10), 1003)))
    return {
        "batch": tokens(batched),
        "paused": tokens(paused),
        "quantised": tokens(quantised),
        "ruled": tokens(ruled),
        "guided": tokens(guided),
        "thinking": [tokens(thinking), thinking[0].end.reasoning_closed_by_force],
        "logprobs": [one.logprob for one in logprobs[0].logprobs],
        "cancelled": cancelled,
        "reused": [tokens(again), again[0].end.usage.cached_tokens],
        "idle": tokens(idle),
    }


def one(engine: Engine) -> list[Output]:
    return run(engine, ask(3, 1, tokens=2))


def ask(length: int, seed: int, *, tokens: int = 16) -> Request:
    return Request(
        prompt(length, seed=seed),
        "answer",
        options=OutputOptions(
            sampling=GREEDY, max_tokens=tokens, ignore_eos=True, stop_repetition=False
        ),
    )


def cancel_one(engine: Engine) -> str:
    stream = engine.submit(ask(30, 20, tokens=600))
    for event in stream:
        if isinstance(event, AnswerText):
            stream.cancel()
        if isinstance(event, Finished):
            return event.reason
    return "no end"


def tokens(outputs: list[Output]) -> list[list[int]]:
    return [output.tokens for output in outputs]
