"""Parallel thinking: the final answer of each text, and which one most of them agree on."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import normalize

# "Answer: 42", "the final answer is 42", in languages of the model card.
_ANNOUNCED = re.compile(
    r"(?:"
    r"(?<!\w)(?:answer|result|réponse(?: finale)?|résultat|(?:end)?ergebnis|antwort|lösung|"
    r"respuesta(?: final)?|resultado|risposta(?: finale)?|risultato|resposta(?: final)?|ответ|"
    r"результат|відповідь|odpowiedź|wynik|cevap|sonuç|svar|jawaban|đáp án|απάντηση|उत्तर|"
    r"الجواب|الإجابة|النتيجة|پاسخ|جواب)(?:\s+(?:is|est|ist|es|è|é|هو|هي)(?!\w)\s*[:：]?|\s*[:：=])"
    r"|(?:答案|答え|結果|结果|정답|답|결과)\s*(?:是|为|は|는|은|[:：=])\s*[:：]?"
    r")\s*(.+)$",
    re.IGNORECASE,
)
_BOLD_BEGINS = re.compile(r"(\*\*|__)(?=\S)")
_BOLD_ENDS = {"**": re.compile(r"(?<=\S)\*\*"), "__": re.compile(r"(?<=\S)__")}
# 1,234.5 and 1.234,5 and 1 234 and 1'234; 12,34,567 (Hindi); 1234 and 12.5 and 12,5.
_NUMBER = re.compile(
    r"[-+−–]?(?:"
    r"[1-9]\d{0,2}(?P<thousands>[.,'’٬ \u00a0\u202f])\d{3}(?:(?P=thousands)\d{3})*"
    r"(?:(?!(?P=thousands))[.,٫]\d+)?"
    r"|[1-9]\d?(?:,\d{2}){1,9},\d{3}(?:\.\d+)?"
    r"|\d+(?:[.,٫]\d+)?"
    r")(?!\d)"
)
_WRAPPERS = (
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox|operatorname|boxed)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}"), r"\1/\2"),
    (re.compile(r"\\(?:left|right|displaystyle|,|;|!|:|quad|qquad)(?![a-zA-Z])"), ""),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])"), "×"),
    (re.compile(r"\\([%$#&_])"), r"\1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[()\[\]]|\$+|\*\*|__|`"), ""),
)
_ENDS = " \t\r\n.,;:!?。！？؟،، "


@dataclass(frozen=True, slots=True)
class Vote:
    """The majority of k answers.

    winner: index of the first answer of the majority; None: no text has a final answer.
    agree: indices of all answers that agree with it, rising.
    finals: the normalised final answer of each text; None: it has none.
    """

    winner: int | None
    agree: tuple[int, ...]
    finals: tuple[str | None, ...]


def vote(answers: Sequence[str]) -> Vote:
    """Find the final answer that most texts agree on; a tie goes to the earliest."""
    written = [final_answer(text) for text in answers]
    finals = _agreed([None if answer is None else normalised(answer) for answer in written])
    counts = Counter(final for final in finals if final)
    if not counts:
        return Vote(None, (), finals)
    most = max(counts.values())
    winner = next(i for i, final in enumerate(finals) if final and counts[final] == most)
    agree = tuple(i for i, final in enumerate(finals) if final == finals[winner])
    return Vote(winner, agree, finals)


def final_answer(text: str) -> str | None:
    """The final answer as it is written, or None if nothing looks like one.

    The last \\boxed{} wins, then the last "Answer: …" (in many languages), the last bold span,
    the last number of the last line, and that whole line if it is short.
    """
    if boxed := _last_boxed(text):
        return boxed
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in reversed(lines):
        if announced := _announced(line):
            return announced
    if bold := _last_bold(text):
        return bold
    if not lines:
        return None
    if numbers := [found[0] for found in _NUMBER.finditer(_ascii_digits(lines[-1]))]:
        return numbers[-1]
    return lines[-1] if len(lines[-1]) <= 40 else None


def normalised(answer: str) -> str:
    """The answer in a form in which equal answers are equal strings.

    Removes the LaTeX and Markdown around it, thousands separators and trailing zeros. Units and
    words stay, case-folded and with single spaces.
    """
    text = answer
    for pattern, kept in _WRAPPERS:
        text = pattern.sub(kept, text)
    text = " ".join(_ascii_digits(normalize("NFKC", text)).split()).replace(" %", "%")
    text = text.strip(_ENDS).casefold()
    if text.count("=") == 1:
        text = text.partition("=")[2].lstrip() or text
    return _NUMBER.sub(lambda found: _number(found[0]), text)


def _agreed(finals: Sequence[str | None]) -> tuple[str | None, ...]:
    """Read "1.234" as the German way to write 1234 if another answer is 1234."""
    merged = []
    for final in finals:
        joined = re.sub(r"(?<![\d.])([1-9]\d{0,2})\.(\d{3})(?![\d.])", r"\1\2", final or "")
        merged.append(joined if joined in finals else final)
    return tuple(merged)


def _last_boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for index in range(start + len("\\boxed"), len(text)):
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return text[start + len("\\boxed{") : index].strip() or None
    return None  # never closed: the answer was cut off


def _announced(line: str) -> str | None:
    found = _ANNOUNCED.search(line.replace("**", "").replace("__", ""))
    if found is None or not re.search(r"\w", found[1]):
        return None
    return re.split(r"[.。]\s", found[1])[0].strip()


def _last_bold(text: str) -> str | None:
    # One pattern for a whole span would search the rest of the text for each unclosed mark.
    last = None
    position, unclosed = 0, set[str]()
    while begins := _BOLD_BEGINS.search(text, position):
        position = begins.start() + 1
        mark = begins[1]
        if mark not in unclosed:
            if ends := _BOLD_ENDS[mark].search(text, begins.end() + 1):
                last, position = text[begins.end() : ends.start()].strip(), ends.end()
            else:
                unclosed.add(mark)
    return last


def _ascii_digits(text: str) -> str:
    """Arabic, Persian, Hindi and other digits as 0 to 9."""
    return "".join(str(int(c)) if c.isdecimal() and not c.isascii() else c for c in text)


def _number(written: str) -> str:
    """A number with a decimal point and no thousands separators."""
    sign = "-" if written[0] in "-−–" else ""
    digits = re.sub(r"[\s'’٬\u00a0\u202f]", "", written.lstrip("+-−–")).replace("٫", ".")
    whole, _, fraction = _with_point(digits).partition(".")
    fraction = fraction.rstrip("0")
    value = (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    return value if value == "0" else sign + value


def _with_point(digits: str) -> str:
    """Remove thousands separators: a comma before three digits, or any beside another separator.

    A lone "1.234" is a decimal, as in English; `vote` knows that it may be a German 1234.
    """
    separators = [c for c in digits if c in ".,"]
    if len(set(separators)) == 2:
        thousands = separators[0]
        return digits.replace(thousands, "").replace(",", ".")
    if len(separators) > 1 or re.fullmatch(r"[1-9]\d{0,2},\d{3}", digits):
        return re.sub("[.,]", "", digits)
    return digits.replace(",", ".")
