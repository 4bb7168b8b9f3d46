"""How often reasoning and answer are in the language of the question."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from magistral_mlx.evaluation.language import LanguageDetector
from magistral_mlx.evaluation.question import Question
from magistral_mlx.evaluation.sample import Sample
from magistral_mlx.evaluation.statistics import Estimate, estimate_mean


@dataclass(frozen=True, slots=True)
class PartShare:
    """Of one part of the outputs: the share in the question's language, None where none counts.

    counted: texts long enough to say; short: those that are not; others: by language, how many are
        in another one.
    """

    share: Estimate | None
    counted: int
    short: int
    others: dict[str, int]


@dataclass(frozen=True, slots=True)
class LanguageShare:
    """Both parts of the outputs to questions in one language, or in all ("all")."""

    language: str
    reasoning: PartShare
    answer: PartShare


def language_shares(
    questions: Sequence[Question], samples: Sequence[Sample], detector: LanguageDetector
) -> list[LanguageShare]:
    """One row a language in the order of the questions, and one for all if there are several.

    Samples whose question names no language are left out. In the row for all, each question is
    one observation: the share of its samples.
    """
    languages = {q.digest: q.language for q in questions if q.language is not None}
    seen = [
        _Seen(
            sample.digest,
            languages[sample.digest],
            detector.detect(sample.reasoning),
            detector.detect(sample.answer),
        )
        for sample in samples
        if sample.digest in languages
    ]
    spoken = [name for name in dict.fromkeys(languages.values()) if name is not None]
    rows = [_row(name, [each for each in seen if each.asked == name]) for name in spoken]
    return [*rows, _row("all", seen)] if len(rows) > 1 else rows


@dataclass(frozen=True, slots=True)
class _Seen:
    """One sample's languages; asked: the question's."""

    digest: str
    asked: str | None
    reasoning: str | None
    answer: str | None


def _row(name: str, seen: Sequence[_Seen]) -> LanguageShare:
    return LanguageShare(
        name,
        _part(seen, lambda each: each.reasoning),
        _part(seen, lambda each: each.answer),
    )


def _part(seen: Sequence[_Seen], part: Callable[[_Seen], str | None]) -> PartShare:
    by_question: dict[str, list[bool]] = {}
    others: dict[str, int] = {}
    for each in seen:
        found = part(each)
        if found is None:
            continue
        by_question.setdefault(each.digest, []).append(found == each.asked)
        if found != each.asked:
            others[found] = others.get(found, 0) + 1
    scores = [sum(same) / len(same) for same in by_question.values()]
    counted = sum(map(len, by_question.values()))
    share = estimate_mean(scores) if scores else None
    return PartShare(share, counted, len(seen) - counted, others)
