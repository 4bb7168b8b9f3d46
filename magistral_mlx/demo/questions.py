"""Arithmetic questions with their reasoning and answer: what the demo model learns and is asked.

Numbers are split by a hash: a question is either for training or held out, never both.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from magistral_mlx.demo.phrases import Phrases, load_phrases

Skill = Literal["add", "subtract", "multiply", "compare", "word"]
SKILLS: tuple[Skill, ...] = ("add", "subtract", "multiply", "compare", "word")


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    """A question, the reasoning that leads to the answer, and the number that it must contain."""

    language: str
    skill: str
    text: str
    reasoning: str
    answer: str
    result: int | None


def held_out_questions(count: int, *, seed: int = 2506) -> list[DemoQuestion]:
    """Questions that training never saw; any 40 in a row cover all skills in all languages."""
    rng = random.Random(seed)
    phrases = list(load_phrases().values())
    return [
        make_question(rng, phrases[i % len(phrases)], skill=SKILLS[i % len(SKILLS)], held_out=True)
        for i in range(count)
    ]


def make_question(
    rng: random.Random, say: Phrases, *, skill: Skill, held_out: bool = False
) -> DemoQuestion:
    """Draw numbers until they are on the requested side of the split, and phrase the question."""
    makers: dict[Skill, Callable[[random.Random, Phrases, bool], DemoQuestion]] = {
        "add": _addition,
        "subtract": _subtraction,
        "multiply": _multiplication,
        "compare": _comparison,
        "word": _word_problem,
    }
    return makers[skill](rng, say, held_out)


def make_greeting(rng: random.Random, say: Phrases) -> DemoQuestion:
    """A greeting or a question about the model itself."""
    return DemoQuestion(
        language=say.language,
        skill="greeting",
        text=rng.choice(say.greetings),
        reasoning=say.greeting_thought,
        answer=say.introduction,
        result=None,
    )


def is_held_out(*numbers: int) -> bool:
    """Whether a question about these numbers, in any order, belongs to the held-out tenth."""
    key = ",".join(str(n) for n in sorted(numbers))
    return zlib.crc32(key.encode()) % 10 == 0


def _addition(rng: random.Random, say: Phrases, held_out: bool) -> DemoQuestion:
    a, b = _pair(rng, 4, held_out)
    text = rng.choice(say.ask_add).format(a=a, b=b)
    answer = say.answer.format(a=a, op="+", b=b, r=a + b)
    return DemoQuestion(say.language, "add", text, _add_steps(say, a, b), answer, a + b)


def _subtraction(rng: random.Random, say: Phrases, held_out: bool) -> DemoQuestion:
    b, a = sorted(_pair(rng, 4, held_out))
    text = rng.choice(say.ask_subtract).format(a=a, b=b)
    answer = say.answer.format(a=a, op="-", b=b, r=a - b)
    return DemoQuestion(say.language, "subtract", text, _subtract_steps(say, a, b), answer, a - b)


def _multiplication(rng: random.Random, say: Phrases, held_out: bool) -> DemoQuestion:
    while True:
        a, b = _number(rng, 3), rng.randrange(2, 10)
        if is_held_out(a, b) == held_out:
            break
    text = rng.choice(say.ask_multiply).format(a=a, b=b)
    answer = say.answer.format(a=a, op="×", b=b, r=a * b)
    return DemoQuestion(say.language, "multiply", text, _multiply_steps(say, a, b), answer, a * b)


def _comparison(rng: random.Random, say: Phrases, held_out: bool) -> DemoQuestion:
    while True:
        a, b = _close_pair(rng) if rng.random() < 0.5 else _pair(rng, 4, held_out)
        if is_held_out(a, b) == held_out:
            break
    text = rng.choice(say.ask_compare).format(a=a, b=b)
    template = say.answer_equal if a == b else say.answer_larger
    answer = template.format(r=max(a, b))
    return DemoQuestion(say.language, "compare", text, _compare_steps(say, a, b), answer, max(a, b))


def _word_problem(rng: random.Random, say: Phrases, held_out: bool) -> DemoQuestion:
    make = _shop_problem if rng.random() < 0.5 else _boxes_problem
    return make(rng, say, held_out)


def _shop_problem(rng: random.Random, say: Phrases, held_out: bool) -> DemoQuestion:
    while True:
        a, b = _number(rng, 3), _number(rng, 3)
        c = rng.randrange(a + b + 1)
        steps = is_held_out(a, b) or is_held_out(a + b, c)
        if is_held_out(a, b, c) == held_out and (held_out or not steps):
            break
    things = rng.choice(say.things)
    return DemoQuestion(
        language=say.language,
        skill="word",
        text=rng.choice(say.ask_shop).format(a=a, b=b, c=c, things=things),
        reasoning="\n".join((say.shop_open, _add_steps(say, a, b), _subtract_steps(say, a + b, c))),
        answer=say.answer_left.format(r=a + b - c, things=things),
        result=a + b - c,
    )


def _boxes_problem(rng: random.Random, say: Phrases, held_out: bool) -> DemoQuestion:
    while True:
        n, a, b = rng.randrange(2, 10), _number(rng, 2), _number(rng, 3)
        steps = is_held_out(n, a) or is_held_out(a * n, b)
        if is_held_out(n, a, b) == held_out and (held_out or not steps):
            break
    things = rng.choice(say.things)
    return DemoQuestion(
        language=say.language,
        skill="word",
        text=rng.choice(say.ask_boxes).format(n=n, a=a, b=b, things=things),
        reasoning="\n".join(
            (say.boxes_open, _multiply_steps(say, a, n), _add_steps(say, a * n, b))
        ),
        answer=say.answer_total.format(r=a * n + b, things=things),
        result=a * n + b,
    )


def _add_steps(say: Phrases, a: int, b: int) -> str:
    lines, carry = [say.add_open.format(a=a, b=b)], 0
    for place, x, y in _columns(say, a, b):
        total = x + y + carry
        working = f"{x} + {y} + {carry} = {total} → {total % 10}"
        carry = total // 10
        lines.append(f"{place}: {working}, {say.carry} {carry}")
    return "\n".join([*lines, say.conclude.format(a=a, op="+", b=b, r=a + b)])


def _subtract_steps(say: Phrases, a: int, b: int) -> str:
    lines, borrow = [say.subtract_open.format(a=a, b=b)], 0
    for place, x, y in _columns(say, a, b):
        left = x - y - borrow
        working = f"{x} - {y} - {borrow} = {left} → {left % 10}"
        borrow = int(left < 0)
        lines.append(f"{place}: {working}, {say.borrow} {borrow}")
    return "\n".join([*lines, say.conclude.format(a=a, op="-", b=b, r=a - b)])


def _multiply_steps(say: Phrases, a: int, b: int) -> str:
    lines, carry = [say.multiply_open.format(a=a, b=b)], 0
    for place, x, _ in _columns(say, a, 0):
        total = x * b + carry
        working = f"{x} × {b} = {x * b}, {x * b} + {carry} = {total} → {total % 10}"
        carry = total // 10
        lines.append(f"{place}: {working}, {say.carry} {carry}")
    return "\n".join([*lines, say.conclude.format(a=a, op="×", b=b, r=a * b)])


def _compare_steps(say: Phrases, a: int, b: int) -> str:
    left, right = str(a), str(b)
    lines = [
        say.compare_open.format(a=a, b=b),
        f"{say.digits}: {len(left)} {_sign(len(left), len(right))} {len(right)}",
    ]
    if len(left) == len(right):
        for place, x, y in zip(reversed(say.places[: len(left)]), left, right, strict=True):
            lines.append(f"{place}: {x} {_sign(int(x), int(y))} {y}")
            if x != y:
                break
    lines.append(say.equal if a == b else say.larger.format(r=max(a, b)))
    return "\n".join(lines)


def _columns(say: Phrases, a: int, b: int) -> list[tuple[str, int, int]]:
    """(place name, digit of a, digit of b), ones first, to the length of the longer number."""
    width = max(len(str(a)), len(str(b)))
    return [(say.places[i], a // 10**i % 10, b // 10**i % 10) for i in range(width)]


def _sign(x: int, y: int) -> str:
    return "=" if x == y else ">" if x > y else "<"


def _pair(rng: random.Random, max_digits: int, held_out: bool) -> tuple[int, int]:
    while True:
        a, b = _number(rng, max_digits), _number(rng, max_digits)
        if is_held_out(a, b) == held_out:
            return a, b


def _number(rng: random.Random, max_digits: int) -> int:
    """A number whose count of digits is uniform, so that short numbers are not rare."""
    digits = rng.randint(1, max_digits)
    return rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def _close_pair(rng: random.Random) -> tuple[int, int]:
    """Two numbers of equal length that share their first digits: the hard comparisons."""
    digits = rng.randint(1, 4)
    a = rng.randrange(10 ** (digits - 1), 10**digits)
    modulus = 10 ** rng.randint(0, digits)
    b = a - a % modulus + rng.randrange(modulus)
    return a, max(b, 10 ** (digits - 1))
