"""Mathematical answers, compared as expressions by math-verify."""

import re

from magistral_mlx.evaluation.grade import Grade

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
