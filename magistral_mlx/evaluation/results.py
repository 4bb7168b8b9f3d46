"""The figures of a run's samples."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from magistral_mlx.evaluation.question import Question
from magistral_mlx.evaluation.sample import Sample
from magistral_mlx.evaluation.statistics import (
    Estimate,
    estimate_mean,
    majority_score,
    pass_at_k,
)


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
    by_question = [[s for s in kept if s.digest == question.digest] for question in questions]
    begun = [drawn for drawn in by_question if drawn]
    complete = [drawn for drawn in by_question if len(drawn) == k]
    return Results(
        k=k,
        questions=len(questions),
        begun=len(begun),
        complete=len(complete),
        wanted=k * len(questions),
        done=len(kept),
        pass_at_1=_estimate(begun, lambda drawn: _pass(drawn, 1)),
        pass_at=_pass_at(complete, k),
        majority=_estimate(complete, _majority) if k > 2 else None,
        by_group=_by_group(questions, by_question),
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


def _pass_at(complete: Sequence[list[Sample]], k: int) -> dict[int, Estimate]:
    """pass@2, @4, … and @k."""
    powers = {2**power for power in range(1, k.bit_length())}
    sizes = sorted(size for size in powers | {k} if 1 < size <= k)
    if not complete:
        return {}
    return {size: estimate_mean([_pass(drawn, size) for drawn in complete]) for size in sizes}


def _by_group(
    questions: Sequence[Question], by_question: Sequence[list[Sample]]
) -> dict[str, Estimate]:
    groups: dict[str, list[list[Sample]]] = {}
    for question, drawn in zip(questions, by_question, strict=True):
        if question.group is not None and drawn:
            groups.setdefault(question.group, []).append(drawn)
    return {
        name: estimate_mean([_pass(each, 1) for each in drawn]) for name, drawn in groups.items()
    }


def _estimate(
    drawn: Sequence[list[Sample]], score: Callable[[list[Sample]], float]
) -> Estimate | None:
    return estimate_mean([score(each) for each in drawn]) if drawn else None


def _pass(drawn: list[Sample], k: int) -> float:
    return pass_at_k([sample.grade for sample in drawn], k)


def _majority(drawn: list[Sample]) -> float:
    return majority_score([sample.grade for sample in drawn])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
