"""Settings and samples as a run makes them."""

from magistral_mlx.evaluation.question import Question
from magistral_mlx.evaluation.run_folder import RunSettings
from magistral_mlx.evaluation.sample import Sample

SETTINGS = RunSettings(
    questions="demo",
    model="demo-4bit",
    fingerprint="ab" * 32,
    device="cpu",
    dtype="float32",
    window=40_960,
    kv_bits=16,
    kv_start=0,
    temperature=0.7,
    top_p=0.95,
    top_k=0,
    min_p=0.0,
    seed=0,
    max_tokens=None,
    thinking_budget=None,
    reasoning="auto",
)


def make_question(
    name: str, *, language: str | None = None, group: str | None = None, text: str = "What is 3?"
) -> Question:
    return Question(name, f"{name}: {text}", "3", "mathematics", language, group)


def make_sample(
    name: str,
    index: int,
    *,
    right: bool,
    extracted: str | None = None,
    reasoning: str = "",
    answer: str = "Answer: 3",
    tokens: int = 100,
) -> Sample:
    """A sample of `make_question(name)`."""
    return Sample(
        question=name,
        digest=make_question(name).digest,
        index=index,
        seed=index,
        extracted=extracted or ("3" if right else "4"),
        right=right,
        finish_reason="stop",
        closed_by_force=False,
        prompt_tokens=10,
        completion_tokens=tokens,
        reasoning_tokens=tokens // 2,
        seconds=1.5,
        reasoning=reasoning,
        answer=answer,
    )
