"""An engine whose steps are counted, over a very small model: the same on every machine."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import mlx.core as mx

from magistral_mlx.bench.output import Output
from magistral_mlx.bench.prompts import SMALL_VOCABULARY
from magistral_mlx.bench.recording import Recording
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.device import DeviceOptions
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.status import StepReport
from magistral_mlx.errors import EngineError
from magistral_mlx.events import Event, Failed, Finished
from magistral_mlx.kv.cache import KVPrecision
from magistral_mlx.magistral import Magistral
from magistral_mlx.memory.this_machine import plan_for_this_machine
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.tokenizer import Tokenizer

WINDOW = 4_096
PREFIX_BYTES = 1_000_000_000
PATIENCE = 30.0
"""Seconds to wait for what must come, before the count goes on without it and is wrong."""


def small_model(layers: int, *, inner: int) -> ModelConfig:
    """So little width that all but the number of layers costs nothing; computes in float32."""
    return ModelConfig(
        vocab_size=SMALL_VOCABULARY,
        hidden_size=64,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=64,
        rms_norm_eps=1e-5,
        rope_theta=1e9,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=False,
        dtype="float32",
        quantization=Quantization(bits=4, group_size=64),
    )


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the steps between two moments. prefilled_idle: while there was no request."""

    steps: int
    prefilled: int
    prefilled_idle: int
    decoded: int


class _Gate:
    """Reached by the engine's thread, opened by another."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()


class CountedEngine:
    """Chunks are not paced by time, and requests that are submitted together start together."""

    def __init__(self, folder: Path) -> None:
        """Open a folder that `write_random_model` made of `small_model`."""
        self._reports: list[StepReport] = []
        checkpoint = open_checkpoint(folder)
        tokenizer = Tokenizer.open(checkpoint.tokenizer_file)
        self.engine = Engine(
            checkpoint,
            tokenizer,
            window=WINDOW,
            device=DeviceOptions(dtype=mx.float32),
            prefix_bytes=PREFIX_BYTES,
            on_step=self._reports.append,
        )
        plan = plan_for_this_machine(checkpoint.config, window=WINDOW, dtype="float32")
        self.model = Magistral(checkpoint, tokenizer, self.engine, plan)

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        tokens: int,
        *,
        precision: KVPrecision | None = None,
    ) -> tuple[list[Output], Counts]:
        """Let all of them run together; the counts are of nothing else.

        Raises EngineError when the engine fails.
        """
        gate = _Gate()
        start = self._marked(gate)
        gate.reached.wait(PATIENCE)
        recordings = [Recording(self.engine, p, tokens, precision=precision) for p in prompts]
        gate.opened.set()
        outputs = [recording.wait() for recording in recordings]
        return outputs, self.since(_number(start))

    def mark(self) -> int:
        """How many steps there were, the one that counts them included."""
        return _number(self._marked())

    def since(self, start: int) -> Counts:
        """Counts of the steps since a mark, now that nothing runs."""
        reports = self._reports[start : self.mark() - 1]
        return Counts(
            steps=len(reports),
            prefilled=sum(report.prefill_tokens for report in reports),
            prefilled_idle=sum(r.prefill_tokens for r in reports if _is_idle(r)),
            decoded=sum(report.decode_tokens for report in reports),
        )

    def wait_for_idle_prefill(self, start: int) -> None:
        """Until a prompt that was taken up while idle, after a mark, is in the empty store."""
        _wait(lambda: any(map(_is_idle, self._reports[start:])))
        _wait(lambda: self.engine.status.kv_stored_bytes > 0)

    def _marked(self, gate: "_Gate | None" = None) -> "SimpleQueue[int | str]":
        """The count, once a request of one step has ended; its own step is not reported by then.

        gate: where the engine's thread then stops until it is opened.
        """
        counted: SimpleQueue[int | str] = SimpleQueue()

        def note(event: Event) -> None:
            if isinstance(event, Failed):
                counted.put(event.message)
            if isinstance(event, Finished):
                if gate is not None:
                    gate.reached.set()
                    gate.opened.wait(PATIENCE)
                counted.put(len(self._reports) + 1)

        request = Request((1_000,), "answer", sampling=SamplingParams(temperature=0), max_tokens=1)
        self.engine.submit_to(request, note)
        return counted


@contextmanager
def counted_engine(folder: Path) -> Iterator[CountedEngine]:
    """With a model of two layers, written into that folder."""
    counted = CountedEngine(write_random_model(folder / "counted", small_model(2, inner=64)))
    try:
        yield counted
    finally:
        counted.engine.close()


def _number(counted: "SimpleQueue[int | str]") -> int:
    number = counted.get()
    if isinstance(number, str):
        raise EngineError(number)
    return number


def _is_idle(report: StepReport) -> bool:
    return report.running == 0 and report.decode_tokens == 0


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
