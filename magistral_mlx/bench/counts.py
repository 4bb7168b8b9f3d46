"""Figures that no machine's speed changes: tokens prefilled, steps, bytes."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from magistral_mlx.bench.counted_engine import CountedEngine, counted_engine
from magistral_mlx.bench.prompts import random_ids
from magistral_mlx.kv.cache import kv_precision
from magistral_mlx.options import GenerationOptions
from magistral_mlx.reply import collect_reply
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.conversation import Message

PROMPT, SAMPLES, DECODED = 300, 4, 8
MIXED = (16, 40, 64, 120, 200, 320, 500, 700)
MIXED_TOKENS = 24
THINKING, ANSWERED = 40, 12
OFTEN, ALWAYS = 50.0, 100.0
"""Biases: whatever the weights say, the output is one word again and again, and then the end."""


def count_everything(folder: Path) -> dict[str, float]:
    """Every figure by name, fewer is better for all but tokens_a_step; a folder to work in."""
    with counted_engine(folder) as counted:
        parts = (
            _prefilled(counted),
            _second_turn(counted),
            _mixed_streams(counted),
            _kv_bytes(counted),
        )
    return dict(chain.from_iterable(part.items() for part in parts))


def _prefilled(counted: CountedEngine) -> Mapping[str, float]:
    """A prompt that is new, one that is known, and several samples of one."""
    prompt, other = random_ids(PROMPT, seed=1), random_ids(PROMPT, seed=2)
    _, cold = counted.run([prompt], DECODED)
    _, known = counted.run([prompt], DECODED)
    _, samples = counted.run([other] * SAMPLES, DECODED)
    return {
        "prefilled_new_prompt": cold.prefilled,
        "prefilled_known_prompt": known.prefilled,
        f"prefilled_{SAMPLES}_samples": samples.prefilled,
    }


def _second_turn(counted: CountedEngine) -> Mapping[str, float]:
    """The reasoning of the first is dropped: what runs before the second, and for it."""
    model, first = counted.model, Message("user", "one")
    word = model.tokenizer.encode(" a")[-1]
    bias = {word: OFTEN, model.tokenizer.eos_id: ALWAYS}
    options = GenerationOptions(
        sampling=SamplingParams(temperature=0, logit_bias=bias),
        thinking_budget=THINKING,
        min_tokens=THINKING + ANSWERED,
        stop_repetition=False,
        reasoning="on",
    )
    counted.engine.forget_finished()
    start = counted.mark()
    reply = model.generate([first], options)
    counted.wait_for_idle_prefill(start)
    idle = counted.since(start).prefilled_idle
    turns = [first, Message("assistant", reply.answer, reply.reasoning), Message("user", "two")]
    # Submitted by ourselves, it prepares no third turn, which would run in between what follows.
    second = collect_reply(model.engine.submit(model.request(turns, options)))
    return {
        "prefilled_while_idle": idle,
        "prefilled_second_turn": second.usage.prompt_tokens - second.usage.cached_tokens,
    }


def _mixed_streams(counted: CountedEngine) -> Mapping[str, float]:
    """Eight prompts of mixed lengths at once, and what is kept of them."""
    counted.engine.forget_finished()
    prompts = [random_ids(length, seed=10 + length) for length in MIXED]
    _, counts = counted.run(prompts, MIXED_TOKENS)
    return {
        "steps_mixed_streams": counts.steps,
        "tokens_a_step": round((counts.prefilled + counts.decoded) / counts.steps, 3),
        "prefix_cache_bytes": counted.engine.status.kv_stored_bytes,
    }


def _kv_bytes(counted: CountedEngine) -> Mapping[str, float]:
    """Of one sequence, at each precision; as computed is float32 here."""
    prompt, found = random_ids(PROMPT, seed=3), {}
    for bits in (16, 8, 4):
        (output,), _ = counted.run([prompt], DECODED, precision=kv_precision(bits))
        found[f"kv_bytes_{bits}_bits" if bits < 16 else "kv_bytes_as_computed"] = output.kv_bytes
    return found
