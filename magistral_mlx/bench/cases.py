"""What is measured, and by whom: cases, contenders, made-up prompts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from magistral_mlx.demo.tekken import SPECIAL_TOKENS
from magistral_mlx.engine.engine import MAX_RUNNING
from magistral_mlx.engine.kv_budget import KVBudget
from magistral_mlx.errors import RequestError
from magistral_mlx.kv.cache import KVPrecision, kv_precision
from magistral_mlx.memory.plan import gigabytes
from magistral_mlx.text.tokenizer import Tokenizer

LEAST_TOKENS = 16
"""A decode rate of fewer tokens means little."""

SMALL_VOCABULARY = 4_096
"""Every model here has at least these ids."""

LONGEST_PROMPT = 131_072


@dataclass(frozen=True, slots=True)
class Case:
    """Tokens of each prompt, streams at once, bits of KV (16: as computed), tokens decoded."""

    prompt: int
    streams: int
    kv_bits: int
    tokens: int

    @property
    def precision(self) -> KVPrecision:
        """How keys and values are stored."""
        return kv_precision(self.kv_bits)

    @property
    def context(self) -> float:
        """Tokens before a decoded one, on average."""
        return self.prompt + self.tokens / 2

    def misfit(self, *, window: int, kv: KVBudget) -> str | None:
        """Why the window or the KV budget cannot hold it; None when they can."""
        length = self.prompt + self.tokens
        if length > window:
            return f"{length:,} tokens, and the window holds {window:,}"
        caches = [(length + 2, self.precision)] * self.streams
        if not kv.holds(caches):
            limit = gigabytes(kv.limit or 0)
            return f"{gigabytes(kv.sum(caches))} of KV, and there is room for {limit}"
        return None

    def __str__(self) -> str:
        streams = f"{self.streams} streams" if self.streams > 1 else "1 stream"
        kv = "" if self.kv_bits == 16 else f", KV at {self.kv_bits} bits"
        return f"prompt {self.prompt:,}, {streams}{kv}"


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second of all streams, seconds to the first token; None: not measured."""

    prefill: float | None = None
    decode: float | None = None
    first_token: float | None = None


class Contender(Protocol):
    """An engine compared with ours, run in turn."""

    name: str

    def refuses(self, case: Case) -> str | None:
        """Why it cannot run a case; None when it can."""

    def warm_up(self, case: Case) -> None:
        """Pay what only the first run of such a case costs."""

    def run(self, case: Case, *, seed: int) -> Rates:
        """Run the case once, with prompts of that seed. Raises UserError when it fails."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Values of each dimension. Raises RequestError for values that cannot be measured.

    every: all combinations; otherwise one dimension varies at a time, and the others keep a fixed
    value: the first number of streams, the first KV precision.
    """

    prompts: Sequence[int]
    streams: Sequence[int]
    kv_bits: Sequence[int]
    tokens: int
    every: bool = False

    def __post_init__(self) -> None:
        if not 1 <= min(self.streams) <= max(self.streams) <= MAX_RUNNING:
            raise RequestError(f"--streams goes from 1 to {MAX_RUNNING}: the engine runs no more.")
        if self.tokens < LEAST_TOKENS:
            raise RequestError(
                f"--tokens is {self.tokens}: a rate needs at least {LEAST_TOKENS} of them."
            )
        for bits in self.kv_bits:
            kv_precision(bits)

    def cases(self) -> list[Case]:
        """In the order of measuring."""
        if self.every:
            chosen = [(p, s, k) for k in self.kv_bits for s in self.streams for p in self.prompts]
        else:
            second, middle = self.prompts[:2][-1], self.prompts[len(self.prompts) // 2]
            chosen = [(prompt, self.streams[0], self.kv_bits[0]) for prompt in self.prompts]
            chosen += [(second, streams, self.kv_bits[0]) for streams in self.streams]
            chosen += [(middle, self.streams[0], bits) for bits in self.kv_bits]
        return [Case(p, s, k, self.tokens) for p, s, k in dict.fromkeys(chosen)]


def parse_numbers(text: str, *, option: str) -> list[int]:
    """The numbers of "128,1k,4k" without repetitions; k is 1,000. Raises RequestError."""
    matches = [re.fullmatch(r"\s*(\d+)\s*(k?)\s*", part, re.IGNORECASE) for part in text.split(",")]
    numbers = [int(m[1]) * (1_000 if m[2] else 1) for m in matches if m is not None]
    if len(numbers) < len(matches) or min(numbers) < 1:
        raise RequestError(f"{option} {text!r} is no list of numbers: write it as 128,1k,4k.")
    return list(dict.fromkeys(numbers))


def random_ids(length: int, *, seed: int = 0) -> list[int]:
    """Ids of text tokens; with the same seed, a shorter list is a prefix of a longer one."""
    generator = np.random.default_rng(seed)
    numbers = generator.integers(SPECIAL_TOKENS, SMALL_VOCABULARY, LONGEST_PROMPT)
    return [int(number) for number in numbers[:length]]


def stream_prompts(length: int, streams: int, *, seed: int) -> list[list[int]]:
    """One prompt per stream; no two of them, of this or another seed, share a long prefix."""
    return [random_ids(length, seed=seed * 1_000 + number) for number in range(streams)]


def prompt_text(tokenizer: Tokenizer, length: int, *, seed: int) -> str:
    """English-looking words of about `length` tokens, for servers that take text."""
    words = [
        token for token in range(SPECIAL_TOKENS, SMALL_VOCABULARY) if _is_word(tokenizer, token)
    ]
    chosen = np.random.default_rng(seed).choice(words, length)
    return tokenizer.decode([int(token) for token in chosen]).strip()


def _is_word(tokenizer: Tokenizer, token: int) -> bool:
    piece = tokenizer.token_bytes(token)
    return len(piece) > 2 and piece[:1] == b" " and piece[1:].isalpha() and piece.isascii()
