"""One reply of the model to one question, as stored on disk."""

import json
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b

from magistral_mlx.evaluation.grading import Grade
from magistral_mlx.evaluation.question import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """question, digest: the question's id and digest; index: which of its samples, from 0.

    seconds: from submission to the end, waiting included.
    """

    question: str
    digest: str
    index: int
    seed: int
    extracted: str | None
    right: bool
    finish_reason: str
    closed_by_force: bool
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    seconds: float
    reasoning: str
    answer: str

    @property
    def grade(self) -> Grade:
        """Its result, and whether that is right."""
        return Grade(self.extracted, self.right)

    @property
    def key(self) -> tuple[str, int]:
        """The question's digest and the sample's index."""
        return self.digest, self.index


def sample_line(sample: Sample) -> str:
    """The sample as a line of JSON, line end included."""
    return json.dumps(asdict(sample), ensure_ascii=False) + "\n"


def read_sample(line: str) -> Sample:
    """Read a line of `sample_line`. Raises ValueError for any other line."""
    data = json.loads(line)
    names = {field.name for field in fields(Sample)}
    if not isinstance(data, dict) or set(data) != names:
        raise ValueError(f"its fields are not {', '.join(sorted(names))}")
    return Sample(**data)


def sample_seed(question: Question, index: int, *, seed: int) -> int:
    """A different seed for each sample, the same in every run with this base seed."""
    name = f"{seed}\0{question.digest}\0{index}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest()) >> 1
