"""Prompts of any length that have never been seen before."""

import numpy as np

from magistral_mlx.demo.tekken import SPECIAL_TOKENS
from magistral_mlx.text.tokenizer import Tokenizer

SMALL_VOCABULARY = 4_096
"""Ids below it are in every vocabulary here."""

LONGEST = 131_072


def random_ids(length: int, *, seed: int = 0) -> list[int]:
    """Text tokens that every vocabulary here has; of the same seed, each begins a longer one."""
    numbers = np.random.default_rng(seed).integers(SPECIAL_TOKENS, SMALL_VOCABULARY, LONGEST)
    return [int(number) for number in numbers[:length]]


def stream_prompts(length: int, streams: int, *, seed: int) -> list[list[int]]:
    """A prompt for each stream; they, and those of another seed, differ from early on."""
    return [random_ids(length, seed=seed * 1_000 + number) for number in range(streams)]


def prompt_text(tokenizer: Tokenizer, length: int, *, seed: int) -> str:
    """English-looking words that are about so many tokens, for servers that take text."""
    words = [
        token for token in range(SPECIAL_TOKENS, SMALL_VOCABULARY) if _is_word(tokenizer, token)
    ]
    chosen = np.random.default_rng(seed).choice(words, length)
    return tokenizer.decode([int(token) for token in chosen]).strip()


def _is_word(tokenizer: Tokenizer, token: int) -> bool:
    piece = tokenizer.token_bytes(token)
    return len(piece) > 2 and piece[:1] == b" " and piece[1:].isalpha() and piece.isascii()
