"""The number that an answer puts in bold, as the nano model's answers do."""

import re

from magistral_mlx.evaluation.grade import Grade

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
