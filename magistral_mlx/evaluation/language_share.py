"""How often reasoning and answer are in the language of the question, by py3langid."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from magistral_mlx.evaluation.question import Question
from magistral_mlx.evaluation.sample import Sample
from magistral_mlx.evaluation.statistics import Estimate, estimate_mean
from magistral_mlx.spec import LANGUAGES

LEAST_BYTES = 12
"""Of words in UTF-8: 12 Latin or 4 Chinese characters. The language of less text is unknown."""

_NOT_PROSE = (
    re.compile(r"```.*?(?:```|\Z)", re.DOTALL),
    re.compile(r"`[^`\n]*`"),
    re.compile(r"\$\$.*?\$\$|\\\[.*?\\\]|\\\(.*?\\\)", re.DOTALL),
    re.compile(r"\$[^$\n]*\$"),
    re.compile(r"\\[a-zA-Z]+"),
)


@dataclass(frozen=True, slots=True)
class PartShare:
    """One part of the outputs: the share in the question's language; None if no text counts.

    counted, short: texts that are long enough to tell their language, and others.
    others: number of texts in each other language.
    """

    share: Estimate | None
    counted: int
    short: int
    others: dict[str, int]


@dataclass(frozen=True, slots=True)
class LanguageShare:
    """Both parts of the outputs for the questions in one language, or for all ("all")."""

    language: str
    reasoning: PartShare
    answer: PartShare


class LanguageDetector:
    """Tells the model card's 25 languages apart, and knows no others.

    A naive Bayes classifier over byte n-grams (Lui and Baldwin 2012). docs/evaluation.md says how
    often it is wrong, mostly between Indonesian and Malay.
    """

    def __init__(self) -> None:
        """Load the classifier that is part of py3langid."""
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
        self._identifier.set_languages(list(LANGUAGES))

    def detect(self, text: str) -> str | None:
        """The language's code; None if the text has too few words."""
        prose = words_of(text)
        if len(prose.encode()) < LEAST_BYTES:
            return None
        code, _ = self._identifier.classify(prose)
        return str(code)


def words_of(text: str) -> str:
    """The text without code, formulas, digits and punctuation, which have no language."""
    for pattern in _NOT_PROSE:
        text = pattern.sub(" ", text)
    kept = (c if unicodedata.category(c)[0] in "LM" else " " for c in text)
    return " ".join("".join(kept).split())


def language_shares(
    questions: Sequence[Question], samples: Sequence[Sample], detector: LanguageDetector
) -> list[LanguageShare]:
    """One row for each language in the order of the questions, and one for all if several.

    Samples of questions without a language are ignored. In the row for all, each question is one
    observation: the share of its samples.
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
    """The languages of a sample; asked: of its question."""

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
