"""A question for the nano."""

from pathlib import Path

from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.text.conversation import Message, prompt_ids
from magistral_mlx.text.tokenizer import Tokenizer


def question_ids(folder: Path, number: int = 0) -> list[int]:
    """A question of the kind that the nano answers, with Magistral's system prompt."""
    question = held_out_questions(number + 1)[number]
    return prompt_ids(Tokenizer.open(folder), [Message("user", question.text)])
