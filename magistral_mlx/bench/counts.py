"""Figures that do not depend on a machine's speed: tokens prefilled, steps, bytes.

They are counted on an engine over a very small random model.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from magistral_mlx.bench.bench_model import narrow_shape
from magistral_mlx.bench.cases import random_ids
from magistral_mlx.bench.recording import Recording, TimedOutput
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.device import DeviceOptions
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.status import StepReport
from magistral_mlx.kv.cache import KVPrecision, kv_precision
from magistral_mlx.machine import machine_limit
from magistral_mlx.magistral import Magistral
from magistral_mlx.memory.needs import Workload
from magistral_mlx.memory.plan import plan
from magistral_mlx.options import GenerationOptions, OutputOptions
from magistral_mlx.reply import collect_reply
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.conversation import Message
from magistral_mlx.text.tokenizer import Tokenizer

WINDOW = 4_096
PREFIX_BYTES = 1_000_000_000
PATIENCE = 30.0
"""Seconds to wait for the engine before counting goes on, with a wrong count."""

PROMPT, SAMPLES, DECODED = 300, 4, 8
MIXED = (16, 40, 64, 120, 200, 320, 500, 700)
MIXED_TOKENS = 24
THINKING, ANSWERED = 40, 12
OFTEN, ALWAYS = 50.0, 100.0
"""Biases: whatever the weights are, the output repeats one word, and then ends."""


def count_everything(folder: Path) -> dict[str, float]:
    """Every figure by name; less is better, except for tokens_a_step. folder: to work in."""
    counted = CountedEngine(write_random_model(folder / "counted", narrow_shape(2)))
    with closing(counted.engine):
        return {
            **_prefilled(counted),
            **_second_turn(counted),
            **_mixed_streams(counted),
            **_kv_bytes(counted),
        }


def _prefilled(counted: "CountedEngine") -> Mapping[str, float]:
    """A new prompt, a known one, and several samples of one."""
    prompt, other = random_ids(PROMPT, seed=1), random_ids(PROMPT, seed=2)
    _, cold = counted.run([prompt], DECODED)
    _, known = counted.run([prompt], DECODED)
    _, samples = counted.run([other] * SAMPLES, DECODED)
    return {
        "prefilled_new_prompt": cold.prefilled,
        "prefilled_known_prompt": known.prefilled,
        f"prefilled_{SAMPLES}_samples": samples.prefilled,
    }


def _second_turn(counted: "CountedEngine") -> Mapping[str, float]:
    """The first turn's reasoning is dropped: tokens prefilled before the second turn, and in it."""
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
    # Submitted to the engine itself, it prepares no third turn, which would add steps.
    second = collect_reply(model.engine.submit(model.request(turns, options)))
    return {
        "prefilled_while_idle": idle,
        "prefilled_second_turn": second.usage.prompt_tokens - second.usage.cached_tokens,
    }


def _mixed_streams(counted: "CountedEngine") -> Mapping[str, float]:
    """Eight prompts of mixed lengths at once, and the prefix cache afterwards."""
    counted.engine.forget_finished()
    prompts = [random_ids(length, seed=10 + length) for length in MIXED]
    _, counts = counted.run(prompts, MIXED_TOKENS)
    return {
        "steps_mixed_streams": counts.steps,
        "tokens_a_step": round((counts.prefilled + counts.decoded) / counts.steps, 3),
        "prefix_cache_bytes": counted.engine.status.kv_stored_bytes,
    }


def _kv_bytes(counted: "CountedEngine") -> Mapping[str, float]:
    """Of one sequence at each precision; "as computed" is float32 here."""
    prompt, found = random_ids(PROMPT, seed=3), {}
    for bits in (16, 8, 4):
        (output,), _ = counted.run([prompt], DECODED, precision=kv_precision(bits))
        found[f"kv_bytes_{bits}_bits" if bits < 16 else "kv_bytes_as_computed"] = output.kv_bytes
    return found


ONE_STEP = Request(
    (1_000,), "answer", OutputOptions(sampling=SamplingParams(temperature=0), max_tokens=1)
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the steps between two marks. prefilled_idle: while no request was running."""

    steps: int
    prefilled: int
    prefilled_idle: int
    decoded: int


class _Gate:
    """Reached by the engine's thread after `steps` steps, opened by another."""

    def __init__(self) -> None:
        self.steps = 0
        self.reached = threading.Event()
        self.opened = threading.Event()


class CountedEngine:
    """Chunks do not depend on time, and requests that are submitted together start together."""

    def __init__(self, folder: Path) -> None:
        """Open a folder that `write_random_model` wrote with a `narrow_shape`."""
        self._reports: list[StepReport] = []
        self._gate: _Gate | None = None
        checkpoint = open_checkpoint(folder)
        tokenizer = Tokenizer.open(checkpoint.tokenizer_file)
        self.engine = Engine(
            checkpoint,
            tokenizer,
            window=WINDOW,
            device=DeviceOptions(dtype=mx.float32),
            prefix_bytes=PREFIX_BYTES,
            on_step=self._report,
        )
        workload = Workload(window=WINDOW, dtype="float32").on_this_machine(checkpoint.config)
        made = plan(checkpoint.config, machine_limit(), workload)
        self.model = Magistral(checkpoint, tokenizer, self.engine, made)

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        tokens: int,
        *,
        precision: KVPrecision | None = None,
    ) -> tuple[list[TimedOutput], Counts]:
        """Run all prompts together; nothing else is counted.

        Raises EngineError when the engine fails.
        """
        self.mark()  # a step from before must not reach the gate
        gate = self._gate = _Gate()
        marker = self.engine.submit(ONE_STEP)
        gate.reached.wait(PATIENCE)
        recordings = [Recording(self.engine, p, tokens, precision=precision) for p in prompts]
        gate.opened.set()
        collect_reply(marker)
        outputs = [recording.wait() for recording in recordings]
        return outputs, self.since(gate.steps)

    def mark(self) -> int:
        """The number of steps so far, including the one that this takes."""
        collect_reply(self.engine.submit(ONE_STEP))
        return len(self._reports)

    def since(self, start: int) -> Counts:
        """Counts of the steps since a mark; call it when nothing is running."""
        reports = self._reports[start : self.mark() - 1]
        return Counts(
            steps=len(reports),
            prefilled=sum(report.prefill_tokens for report in reports),
            prefilled_idle=sum(r.prefill_tokens for r in reports if _is_idle(r)),
            decoded=sum(report.decode_tokens for report in reports),
        )

    def wait_for_idle_prefill(self, start: int) -> None:
        """Return when a prompt prefilled while idle, after a mark, is in the empty prefix cache."""
        _wait(lambda: any(map(_is_idle, self._reports[start:])))
        _wait(lambda: self.engine.status.kv_stored_bytes > 0)

    def _report(self, report: StepReport) -> None:
        self._reports.append(report)
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.steps = len(self._reports)
            gate.reached.set()
            gate.opened.wait(PATIENCE)


def _is_idle(report: StepReport) -> bool:
    return report.running == 0 and report.decode_tokens == 0


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
