"""How often the nano model answers held-out questions rightly, before and after conversion.

    python -m magistral_mlx.evaluation.demo_accuracy --questions 500

Greedy, under the default system prompt, by the engine, in batches: the bfloat16 checkpoint
computed in float32, and the 4-bit conversion. Ends with one JSON line.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from magistral_mlx.api import Magistral, open_model
from magistral_mlx.convert import convert
from magistral_mlx.demo.expand import demo_source
from magistral_mlx.demo.questions import SKILLS, Question, held_out_questions
from magistral_mlx.events import AnswerText
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import SamplingParams

AT_ONCE = 32
OPTIONS = GenerationOptions(sampling=SamplingParams(temperature=0), max_tokens=512, history="keep")
"""Greedy. No idle work is to prepare a second turn, so the history counts as kept."""


def right_answers(model: Magistral, questions: list[Question]) -> list[bool]:
    """Ask some at once; the engine batches them. True where the number is right."""
    right: list[bool] = []
    for start in track(range(0, len(questions), AT_ONCE), "Asking"):
        asked = questions[start : start + AT_ONCE]
        streams = [model.stream(question.text, OPTIONS) for question in asked]
        for question, events in zip(asked, streams, strict=True):
            answer = "".join(event.text for event in events if isinstance(event, AnswerText))
            right.append(f"**{question.result}**" in answer)
    return right


def main() -> None:
    """Measure, print a table by skill and language, and one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=500)
    questions = held_out_questions(parser.parse_args().questions)
    table = Table("", *SKILLS, "all", title=f"Right answers of {len(questions)}, in percent")
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in (
            ("float32", demo_source()),
            ("4-bit", convert("demo", Path(folder) / "nano-4bit")),
        ):
            with open_model(path, dtype="float32") as model:
                right = right_answers(model, questions)
            table.add_row(name, *_percentages(questions, right))
            shares[name] = sum(right) / len(right)
    Console(stderr=True).print(table)
    sys.stdout.write(json.dumps({"questions": len(questions), **shares}) + "\n")


def _percentages(questions: list[Question], right: list[bool]) -> list[str]:
    asked = Counter(question.skill for question in questions)
    found = Counter(q.skill for q, correct in zip(questions, right, strict=True) if correct)
    by_skill = [f"{100 * found[skill] / asked[skill]:.1f}" for skill in SKILLS]
    return [*by_skill, f"{100 * sum(right) / len(right):.1f}"]


if __name__ == "__main__":
    main()
