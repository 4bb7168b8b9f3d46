"""mlx-lm beside our engine: one stream, a batch, and `--compare mlx-lm`."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm import load
from mlx_lm.generate import BatchGenerator, generate_step

from magistral_mlx.bench.cases import Case, Rates, stream_prompts
from magistral_mlx.bench.recording import TimedOutput, joint_decode_rate


def load_mlx_lm(folder: Path, *, dtype: str | None = None) -> nn.Module:
    """Load the folder with mlx-lm. dtype: to compute in; None: the type that the folder stores."""
    model: nn.Module = load(str(folder))[0]
    if dtype is not None:
        model.set_dtype(getattr(mx, dtype))
        mx.eval(model.parameters())
    return model


def run_steps(
    model: nn.Module, prompt: Sequence[int], tokens: int, *, kv_bits: int | None = None
) -> TimedOutput:
    """One stream, greedy, without text or wired memory."""
    output = TimedOutput()
    ids = mx.array(list(prompt))
    steps = generate_step(ids, model, max_tokens=tokens, kv_bits=kv_bits, quantized_kv_start=0)
    for token, _ in steps:
        output.add(token)
    return output


class MlxLmBatch:
    """Streams of one BatchGenerator, and when their tokens arrive.

    On Metal mlx-lm sets a wired limit by default; closing the generator restores the old one.
    """

    def __init__(self, generator: Any) -> None:
        """Use `mlx_lm_batch`. running: numbers of the streams that have not ended.

        kv_bytes: of all streams before the latest step.
        """
        self._generator = generator
        self.running: set[int] = set()
        self.outputs: dict[int, TimedOutput] = {}
        self.kv_bytes = 0

    def insert(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[int]:
        """Add streams; returns their numbers."""
        submitted = time.perf_counter()
        uids: list[int] = self._generator.insert(
            [list(prompt) for prompt in prompts], max_tokens=[tokens] * len(prompts)
        )
        self.outputs |= {uid: TimedOutput(submitted) for uid in uids}
        self.running |= set(uids)
        return uids

    def step(self) -> None:
        """One step of the generator: a token for every stream, and the next chunk of prompts."""
        self.kv_bytes = self._generator.prompt_cache_nbytes
        _, responses = self._generator.next()
        for response in responses:
            self.outputs[response.uid].add(response.token)
            if response.finish_reason is not None:
                self.running.discard(response.uid)


@contextmanager
def mlx_lm_batch(model: nn.Module) -> Iterator[MlxLmBatch]:
    """A BatchGenerator with its defaults."""
    with closing(BatchGenerator(model)) as generator:
        yield MlxLmBatch(generator)


@dataclass(frozen=True, slots=True)
class BatchOutputs:
    """Outputs of streams that ran together, and the bytes of their KV at the end."""

    outputs: list[TimedOutput]
    kv_bytes: int


def run_batch(model: nn.Module, prompts: Sequence[Sequence[int]], tokens: int) -> BatchOutputs:
    """Insert all prompts at once; wait for all outputs."""
    with mlx_lm_batch(model) as batch:
        uids = batch.insert(prompts, tokens)
        while batch.running:
            batch.step()
        return BatchOutputs([batch.outputs[uid] for uid in uids], batch.kv_bytes)


class MlxLmContender:
    """`generate_step` for one stream, `BatchGenerator` for several."""

    name = "mlx-lm"

    def __init__(self, folder: Path, *, dtype: str) -> None:
        """Load the folder; dtype: what our engine computes in."""
        self._model = load_mlx_lm(folder, dtype=dtype)

    def refuses(self, case: Case) -> str | None:
        """Its batches do not quantise KV."""
        if case.streams > 1 and case.precision.bits is not None:
            return "it does not quantise the KV of several streams"
        return None

    def warm_up(self, case: Case) -> None:
        """Run a short case."""
        self.run(Case(32, case.streams, case.kv_bits, 16), seed=0)

    def run(self, case: Case, *, seed: int) -> Rates:
        """All streams at once."""
        prompts = stream_prompts(case.prompt, case.streams, seed=seed)
        if case.streams == 1:
            bits = case.precision.bits
            outputs = [run_steps(self._model, prompts[0], case.tokens, kv_bits=bits)]
        else:
            outputs = run_batch(self._model, prompts, case.tokens).outputs
        first = max(output.wait for output in outputs)
        return Rates(
            prefill=case.streams * case.prompt / first,
            decode=joint_decode_rate(outputs),
            first_token=first,
        )
