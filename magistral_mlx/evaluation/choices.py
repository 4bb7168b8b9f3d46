"""How a multiple-choice question is put to the model."""

import random
from collections.abc import Sequence

from magistral_mlx.evaluation.letter import LETTERS


def multiple_choice(question: str, choices: Sequence[str]) -> str:
    """The question, its choices by letter, and the form that the answer is to end in."""
    listed = "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, choices, strict=True))
    return (
        f"{question}\n\n{listed}\n\n"
        f"Exactly one choice is right. End your answer with a line “Answer: ” and its letter."
    )


def shuffled_choices(right: str, wrong: Sequence[str], *, seed: str) -> tuple[list[str], str]:
    """The choices in an order that hangs on the seed alone, and the letter of the right one."""
    order = list(range(len(wrong) + 1))
    random.Random(seed).shuffle(order)
    texts = [right, *wrong]
    return [texts[i] for i in order], LETTERS[order.index(0)]
