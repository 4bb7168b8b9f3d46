"""Prompts to measure with: a question for the nano, and ids of any length."""

from pathlib import Path

import numpy as np

from magistral_mlx.conversation import Message, prompt_ids
from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.demo.tekken import SPECIAL_TOKENS
from magistral_mlx.tokenizer import Tokenizer

SMALL_VOCABULARY = 4_096


def question_ids(folder: Path, number: int = 0) -> list[int]:
    """A question of the kind that the nano answers, with Magistral's system prompt."""
    question = held_out_questions(number + 1)[number]
    return prompt_ids(Tokenizer.open(folder), [Message("user", question.text)])


def random_ids(length: int, *, seed: int = 0) -> list[int]:
    """Text tokens that every vocabulary here has; of the same seed, each begins a longer one."""
    numbers = np.random.default_rng(seed).integers(SPECIAL_TOKENS, SMALL_VOCABULARY, 65_536)
    return [int(number) for number in numbers[:length]]
