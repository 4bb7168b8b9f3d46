"""Whether an answer is right: each kind of question finds the answer's result in its own way."""

import re
from dataclasses import dataclass

from magistral_mlx.evaluation.question import Question


@dataclass(frozen=True, slots=True)
class Grade:
    """extracted: the answer's result, in a form that equal results share; None: there is none."""

    extracted: str | None
    right: bool


def grade(question: Question, answer: str) -> Grade:
    """Grade an answer. Reasoning does not count: pass the answer alone.

    Call it on the main thread: math-verify stops endless simplifications with an alarm signal.
    """
    graders = {
        "mathematics": _grade_mathematics,
        "letter": _grade_letter,
        "bold number": _grade_bold_number,
    }
    return graders[question.check](answer, question.expected)


_STATED = re.compile(r"(?im)^[\s*_#>-]*(?:final\s+)?answer[\s*_]*[:：][\s*_]*(.+?)[\s*_]*$")
_BOLD_VALUE = re.compile(r"\*\*([^*\n]*\d[^*\n]*)\*\*")


def _grade_mathematics(answer: str, expected: str) -> Grade:
    """Compare as expressions, so that 0.5 equals ½.

    The result is the last line "Answer: …", or else the last value in bold, or else what
    math-verify finds.
    """
    # sympy takes a second to import, and other questions do not need it.
    from math_verify import parse, verify

    found = parse(_stated(answer))
    if not found:
        return Grade(None, right=False)
    wanted = parse(f"${expected}$") or parse(expected)
    return Grade(str(found[0]), bool(verify(wanted, found)))


def _stated(answer: str) -> str:
    if "\\boxed" in answer:
        return answer
    found = _STATED.findall(answer) or _BOLD_VALUE.findall(answer)
    if not found:
        return answer
    value = str(found[-1])
    return value if "$" in value or "\\(" in value else f"${value}$"


LETTERS = "ABCD"

# What may surround the letter: Markdown, LaTeX, brackets.
_OPEN = r"[\s*_`\"'“(\[{$]*(?:\\(?:boxed|text|mathrm|mathbf|textbf)\s*[{(]\s*)*[*_(\[]*"
_LETTER = rf"([{LETTERS}])(?![A-Za-z0-9'’])"
_LETTER_FORMS = (
    # After a word for the answer and "is" or a colon, in brackets and bold or not.
    re.compile(
        rf"(?i:answer|choice|option)\W{{0,6}}(?i:is|would\s+be|must\s+be|:|：|=)\W{{0,6}}?"
        rf"(?i:option\s+|choice\s+)?{_OPEN}{_LETTER}"
    ),
    re.compile(rf"\\boxed\s*\{{{_OPEN}{_LETTER}"),
    # A letter in bold, alone or before the text of its choice.
    re.compile(rf"(?:\*\*|__)\s*\(?{_LETTER}\s*[).:]?\s*(?:\*\*|__|\S)"),
    # A line with only the letter.
    re.compile(rf"(?m)^\s*\(?{_LETTER}[).:]*\s*$"),
)


def _grade_letter(answer: str, expected: str) -> Grade:
    """Compare the last letter in the clearest form that occurs."""
    found = next((each for form in _LETTER_FORMS if (each := form.findall(answer))), [None])
    return Grade(found[-1], found[-1] == expected)


_BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
_NUMBER = re.compile(r"[-−]?\d+(?:[,.'’\u00a0\u202f ]\d{3})*(?!\d)")


def _grade_bold_number(answer: str, expected: str) -> Grade:
    """Compare the last whole number in bold, in any script, thousands separators allowed."""
    numbers = [number for bold in _BOLD.findall(answer) for number in _NUMBER.findall(bold)]
    if not numbers:
        return Grade(None, right=False)
    extracted = _canonical(numbers[-1])
    return Grade(extracted, extracted == _canonical(expected))


def _canonical(number: str) -> str:
    sign = "-" if number[0] in "-−" else ""
    digits = re.sub(r"\D", "", number)
    return f"{sign}{int(digits)}"
