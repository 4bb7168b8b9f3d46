"""Is an answer right? Each kind of question has its own way to find what an answer comes to."""

import re
from dataclasses import dataclass

from magistral_mlx.evaluation.question import Question


@dataclass(frozen=True, slots=True)
class Grade:
    """extracted: what the answer comes to, in a form that equal answers share; None: nothing."""

    extracted: str | None
    right: bool


def grade(question: Question, answer: str) -> Grade:
    """Grade the answer alone; the reasoning before it counts for nothing.

    Call it on the main thread: math-verify ends endless simplifications with an alarm signal.
    """
    graders = {
        "mathematics": grade_mathematics,
        "letter": grade_letter,
        "bold number": grade_bold_number,
    }
    return graders[question.check](answer, expected=question.expected)


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


_BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
_NUMBER = re.compile(r"[-−]?\d+(?:[,.'’\u00a0\u202f ]\d{3})*(?!\d)")
_SEPARATORS = re.compile(r"[^\d]")


def grade_bold_number(answer: str, *, expected: str) -> Grade:
    """Compare the last whole number in bold; thousands may be set apart, digits of any script."""
    numbers = [number for bold in _BOLD.findall(answer) for number in _NUMBER.findall(bold)]
    if not numbers:
        return Grade(None, right=False)
    extracted = _canonical(numbers[-1])
    return Grade(extracted, extracted == _canonical(expected))


def _canonical(number: str) -> str:
    sign = "-" if number[0] in "-−" else ""
    return f"{sign}{int(_SEPARATORS.sub('', number))}"


_STATED = re.compile(r"(?im)^[\s*_#>-]*(?:final\s+)?answer[\s*_]*[:：][\s*_]*(.+?)[\s*_]*$")
_BOLD = re.compile(r"\*\*([^*\n]*\d[^*\n]*)\*\*")


def grade_mathematics(answer: str, *, expected: str) -> Grade:
    """Compare what the answer states, as an expression: 0.5 is ½.

    That is its last line "Answer: …", or else what it puts in bold last, or else what math-verify
    finds in it.
    """
    # sympy takes a second to import, and other questions do not need it.
    from math_verify import parse, verify

    found = parse(_stated(answer))
    if not found:
        return Grade(None, right=False)
    wanted = parse(f"${expected}$") or parse(expected)
    return Grade(str(found[0]), bool(verify(wanted, found)))


def _stated(answer: str) -> str:
    for pattern in (_STATED, _BOLD):
        found: list[str] = pattern.findall(answer)
        if found and "\\boxed" not in answer:
            value = found[-1]
            return value if "$" in value or "\\(" in value else f"${value}$"
    return answer
