"""The figures of a run's samples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magistral_mlx.evaluation.grading import Grade
from magistral_mlx.evaluation.question import Question
from magistral_mlx.evaluation.sample import Sample
from magistral_mlx.evaluation.statistics import Estimate, estimate_mean, majority_score, pass_at_k


@dataclass(frozen=True, slots=True)
class Results:
    """Figures of the samples so far; an estimate without samples is None.

    k: samples to draw of each question; wanted: of all questions; done: samples so far.
    begun: questions with at least one sample, which pass@1 counts; complete: questions with all k,
        which pass@k and maj@k count.
    pass_at: by k, from 2; by_group: pass@1 of each kind of question.
    mean_tokens: of output, reasoning included.
    forced: share of samples with reasoning closed by force; unanswered: without a result to grade.
    ends: number of samples by finish reason.
    """

    k: int
    questions: int
    begun: int
    complete: int
    wanted: int
    done: int
    pass_at_1: Estimate | None
    pass_at: dict[int, Estimate]
    majority: Estimate | None
    by_group: dict[str, Estimate]
    mean_tokens: float
    mean_reasoning_tokens: float
    forced: float
    unanswered: float
    ends: dict[str, int]

    @property
    def finished(self) -> bool:
        """Whether all samples are drawn."""
        return self.done == self.wanted


def compute_results(questions: Sequence[Question], samples: Sequence[Sample], *, k: int) -> Results:
    """The figures of the first k samples of each question; other samples are ignored."""
    kept = wanted_samples(questions, samples, k=k)
    grades: dict[str, list[Grade]] = {question.digest: [] for question in questions}
    for sample in kept:
        grades[sample.digest].append(sample.grade)
    begun = [each for each in grades.values() if each]
    complete = [each for each in begun if len(each) == k]
    return Results(
        k=k,
        questions=len(questions),
        begun=len(begun),
        complete=len(complete),
        wanted=k * len(questions),
        done=len(kept),
        pass_at_1=_pass_at(1, begun) if begun else None,
        pass_at={size: _pass_at(size, complete) for size in _sizes(k)} if complete else {},
        majority=estimate_mean([majority_score(each) for each in complete])
        if complete and k > 2
        else None,
        by_group=_by_group(questions, grades),
        mean_tokens=_mean([sample.completion_tokens for sample in kept]),
        mean_reasoning_tokens=_mean([sample.reasoning_tokens for sample in kept]),
        forced=_mean([sample.closed_by_force for sample in kept]),
        unanswered=_mean([sample.extracted is None for sample in kept]),
        ends=dict(Counter(sample.finish_reason for sample in kept)),
    )


def wanted_samples(
    questions: Sequence[Question], samples: Sequence[Sample], *, k: int
) -> list[Sample]:
    """The first k samples of each of these questions, without duplicates."""
    digests = {question.digest for question in questions}
    found = {s.key: s for s in samples if s.digest in digests and s.index < k}
    return list(found.values())


def _by_group(
    questions: Sequence[Question], grades: Mapping[str, list[Grade]]
) -> dict[str, Estimate]:
    groups: dict[str, list[list[Grade]]] = {}
    for question in questions:
        if question.group is not None and grades[question.digest]:
            groups.setdefault(question.group, []).append(grades[question.digest])
    return {name: _pass_at(1, each) for name, each in groups.items()}


def _pass_at(k: int, grades: Sequence[list[Grade]]) -> Estimate:
    return estimate_mean([pass_at_k(each, k) for each in grades])


def _sizes(k: int) -> list[int]:
    """2, 4, … and k."""
    powers = {2**power for power in range(1, k.bit_length())}
    return sorted(size for size in powers | {k} if 1 < size <= k)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
