"""mlx-lm's side: `stream_generate` for one stream, `BatchGenerator` for several."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm import load, stream_generate
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.tokenizer_utils import TokenizerWrapper

from magistral_mlx.bench.output import Output


@dataclass(frozen=True, slots=True)
class MlxLm:
    """Its model and tokenizer."""

    model: nn.Module
    tokenizer: TokenizerWrapper


def load_mlx_lm(folder: Path, *, dtype: str | None = None) -> MlxLm:
    """As mlx-lm loads it; no token ends an output.

    dtype: to compute in; None: the type that the folder stores.
    """
    model, tokenizer = load(str(folder))[:2]
    if dtype is not None:
        model.set_dtype(getattr(mx, dtype))
        mx.eval(model.parameters())
    tokenizer.eos_token_ids = set()
    return MlxLm(model, tokenizer)


def run_single(mlx_lm: MlxLm, prompt: Sequence[int], tokens: int) -> Output:
    """Greedy, exactly so many tokens, as its users get them: with text, and with memory wired."""
    output = Output(submitted=time.perf_counter())
    for response in stream_generate(
        mlx_lm.model, mlx_lm.tokenizer, list(prompt), max_tokens=tokens
    ):
        output.tokens.append(response.token)
        output.marks.append((time.perf_counter(), len(output.tokens)))
    return output


def run_one(
    mlx_lm: MlxLm, prompt: Sequence[int], tokens: int, *, kv_bits: int | None = None
) -> Output:
    """The same without text, without wiring memory, and with KV of so many bits."""
    output = Output(submitted=time.perf_counter())
    steps = generate_step(
        mx.array(list(prompt)),
        mlx_lm.model,
        max_tokens=tokens,
        kv_bits=kv_bits,
        quantized_kv_start=0,
    )
    for token, _ in steps:
        output.tokens.append(token)
        output.marks.append((time.perf_counter(), len(output.tokens)))
    return output


class Batch:
    """Streams of one BatchGenerator, and when their tokens came.

    It asks for a wired limit where the machine reports a recommended size (Metal); that is
    mlx-lm's default, `close` puts the old one back, and on the CPU nothing happens.
    """

    def __init__(self, generator: Any) -> None:
        """Use `their_batch`. kv_bytes: of all streams before the latest step."""
        self._generator = generator
        self._running: set[int] = set()
        self.outputs: dict[int, Output] = {}
        self.kv_bytes = 0

    def insert(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[int]:
        """Add streams; their numbers."""
        submitted = time.perf_counter()
        uids: list[int] = self._generator.insert(
            [list(prompt) for prompt in prompts], max_tokens=[tokens] * len(prompts)
        )
        self.outputs |= {uid: Output(submitted) for uid in uids}
        self._running |= set(uids)
        return uids

    def step(self) -> None:
        """One step of the generator: a token for every stream, and prompts' next chunks."""
        self.kv_bytes = self._generator.prompt_cache_nbytes
        _, responses = self._generator.next()
        now = time.perf_counter()
        for response in responses:
            output = self.outputs[response.uid]
            output.tokens.append(response.token)
            output.marks.append((now, len(output.tokens)))
            if response.finish_reason is not None:
                self._running.discard(response.uid)

    @property
    def finished(self) -> bool:
        """Whether all streams have ended."""
        return not self._running

    def remove(self, uid: int) -> None:
        """End one stream early."""
        if uid in self._running:
            self._generator.remove([uid])
            self._running.discard(uid)


@contextmanager
def their_batch(mlx_lm: MlxLm) -> Iterator[Batch]:
    """A BatchGenerator with its defaults."""
    generator = BatchGenerator(mlx_lm.model)
    try:
        yield Batch(generator)
    finally:
        generator.close()


@dataclass(frozen=True, slots=True)
class BatchOutputs:
    """What came of several streams, and the bytes of their KV before the last step."""

    outputs: list[Output]
    kv_bytes: int


def run_batch(mlx_lm: MlxLm, prompts: Sequence[Sequence[int]], tokens: int) -> BatchOutputs:
    """Insert all prompts at once; wait for all outputs."""
    with their_batch(mlx_lm) as batch:
        uids = batch.insert(prompts, tokens)
        while not batch.finished:
            batch.step()
        return BatchOutputs([batch.outputs[uid] for uid in uids], batch.kv_bytes)
