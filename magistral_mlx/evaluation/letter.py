"""The letter that an answer to a multiple-choice question chooses."""

import re

from magistral_mlx.evaluation.grade import Grade

LETTERS = "ABCD"

# What may stand around the letter: Markdown, LaTeX, brackets.
_OPEN = r"[\s*_`\"'“(\[{$]*(?:\\(?:boxed|text|mathrm|mathbf|textbf)\s*[{(]\s*)*[*_(\[]*"
_LETTER = rf"([{LETTERS}])(?![A-Za-z0-9'’])"
_PATTERNS = (
    # After a word for the answer and "is" or a colon, in brackets and bold or not.
    re.compile(
        rf"(?i:answer|choice|option)\W{{0,6}}(?i:is|would\s+be|must\s+be|:|：|=)\W{{0,6}}?"
        rf"(?i:option\s+|choice\s+)?{_OPEN}{_LETTER}"
    ),
    re.compile(rf"\\boxed\s*\{{{_OPEN}{_LETTER}"),
    # A letter in bold, alone or before the text of its choice.
    re.compile(rf"(?:\*\*|__)\s*\(?{_LETTER}\s*[).:]?\s*(?:\*\*|__|\S)"),
    # A line that is nothing but the letter.
    re.compile(rf"(?m)^\s*\(?{_LETTER}[).:]*\s*$"),
)


def grade_letter(answer: str, *, expected: str) -> Grade:
    """Compare the letter chosen last, in the clearest form that the answer has."""
    extracted = _chosen(answer)
    return Grade(extracted, extracted == expected)


def _chosen(answer: str) -> str | None:
    for pattern in _PATTERNS:
        found: list[str] = pattern.findall(answer)
        if found:
            return found[-1]
    return None
