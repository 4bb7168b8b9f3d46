"""What a person sees of a reply: on a terminal, in a pipe, as JSON, and when it is stopped."""

import io
import json
import re
from itertools import pairwise
from time import sleep

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from magistral_mlx import EngineError, GenerationOptions
from magistral_mlx.events import AnswerText, Failed, ReasoningText
from magistral_mlx.terminal.ask import AskOutput, run_ask
from magistral_mlx.terminal.reply import show_reply
from magistral_mlx.terminal.reply_views import PlainView
from magistral_mlx.terminal.streamed_text import (
    SECONDS_BETWEEN_DRAWS,
    MarkdownStream,
    WrappedText,
    first_block,
)
from magistral_mlx.text.conversation import Message
from tests.scripted_model import Script, ScriptedModel, finished, reply

QUESTION = [Message("user", "How many?")]
MARKDOWN = """\
# Result

The sum is **632**:

1. ones

2. tens

   still the second item

| a | b |
|---|---|
| 1 | 2 |

```python
x = 1

y = 2
```

> a quotation

**Done.**
"""


def ask(
    script: Script,
    *,
    terminal: bool,
    as_json: bool = False,
    show_reasoning: bool | None = None,
) -> tuple[bool, str, str]:
    """Whether it completed, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    completed = run_ask(
        ScriptedModel(script),
        QUESTION,
        GenerationOptions(),
        output=AskOutput(as_json=as_json, show_reasoning=show_reasoning),
        console=Console(file=out, force_terminal=terminal, width=80, height=24),
        errors=Console(file=err, width=200),
    )
    return completed, out.getvalue(), err.getvalue()


def screen(output: str) -> str:
    """What stays on a terminal: cursor movements and erased lines carried out, styles dropped."""
    lines = [""]
    row = 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", output):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif match := re.fullmatch(r"\x1b\[(\d*)A", part):
            row -= int(match[1] or 1)
        elif part != "\r" and not part.startswith("\x1b["):
            lines[row] += part
    return "\n".join(line.rstrip() for line in lines).rstrip("\n")


def test_a_terminal_shows_dimmed_reasoning_then_markdown_then_figures() -> None:
    _, out, err = ask(reply("Let me add.\nCarry.", "It is **632**."), terminal=True)
    assert "\x1b[2mLet" in out
    assert "\x1b[1m632" in out
    assert screen(out) == (
        "Let me add.\nCarry.\n\nIt is 632.\n\n"
        "152 tokens (96 reasoning) · 41.2 tok/s · 0.50 s to the first token"
    )
    assert err == ""


def test_a_terminal_says_how_the_reply_was_cut() -> None:
    _, out, _ = ask(reply("r", "a", reason="length", forced=True), terminal=True)
    assert "reasoning was closed by force · cut at --max-tokens" in screen(out).replace("\n", " ")
    full: Script = [AnswerText("a"), finished("length", completion_tokens=810)]
    _, out, _ = ask(full, terminal=True)
    assert "cut at the window of 1,000 tokens" in screen(out).replace("\n", " ")
    _, out, _ = ask(reply("r", "a", reason="repetition"), terminal=True)
    assert "stopped because it repeated itself" in screen(out).replace("\n", " ")


def test_a_terminal_hides_the_reasoning_on_request() -> None:
    _, out, _ = ask(reply("Let me add.", "632"), terminal=True, show_reasoning=False)
    assert screen(out).startswith("632\n")


def test_a_pipe_gets_the_answer_alone_as_it_was_written() -> None:
    _, out, err = ask(reply("Let me add.", "It is **632**."), terminal=False)
    assert (out, err) == ("It is **632**.\n", "")


def test_a_pipe_gets_the_reasoning_on_standard_error_when_asked_for() -> None:
    script = reply("Let me add.", "632\n")
    assert ask(script, terminal=False, show_reasoning=True)[1:] == ("632\n", "Let me add.\n")


def test_a_pipe_learns_on_standard_error_that_the_reply_was_cut() -> None:
    _, out, err = ask(reply("r", "63", reason="length", forced=True), terminal=False)
    assert (out, err) == ("63\n", "reasoning was closed by force\ncut at --max-tokens\n")


def test_json_is_one_object_with_everything() -> None:
    _, out, _ = ask(reply("Je réfléchis 思", "632"), terminal=True, as_json=True)
    found = json.loads(out)
    assert found["reasoning"] == "Je réfléchis 思"
    assert "思" in out
    assert found["answer"] == "632"
    assert found["finish_reason"] == "stop"
    assert found["usage"]["reasoning_tokens"] == 96
    assert found["timings"]["decode_tokens_per_second"] == pytest.approx(41.23)
    assert found["reasoning_closed_by_force"] is False
    assert found["model"] == "scripted"


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_keeps_what_has_arrived_and_cancels_the_request(terminal: bool) -> None:
    model = ScriptedModel([ReasoningText("Hm."), AnswerText("It is **6"), KeyboardInterrupt()])
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80)
    completed = run_ask(
        model, QUESTION, GenerationOptions(), output=AskOutput(), console=console, errors=console
    )
    assert not completed
    assert model.closed == 1
    assert "It is **6" in screen(out.getvalue())


class InterruptedView(PlainView):
    def answer(self, text: str) -> None:
        raise KeyboardInterrupt


def test_ctrl_c_while_text_is_printed_cancels_the_request_too() -> None:
    model = ScriptedModel(reply("r", "answer"))
    events = model.stream(QUESTION, GenerationOptions())
    shown = show_reply(events, InterruptedView(None, reasoning_out=None))
    assert model.closed == 1
    assert (shown.reasoning, shown.finished) == ("r", None)


def test_an_engine_failure_is_raised_after_what_has_arrived() -> None:
    with pytest.raises(EngineError, match="out of memory"):
        ask([AnswerText("It"), Failed("out of memory")], terminal=False)


def test_escape_sequences_of_the_model_do_not_reach_the_terminal() -> None:
    _, out, _ = ask(reply("a\x1b[31mb\x9b1m", "c\x1b]0;title\x07d"), terminal=True)
    assert "\x1b[31m" not in out
    assert "\x1b]" not in out
    assert "\x9b" not in out
    assert "\x07" not in out


def streamed(pieces: list[str], *, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=60, height=8)
    with MarkdownStream(console) as stream:
        for piece in pieces:
            stream.push(piece)
    return out.getvalue()


@given(st.lists(st.integers(1, len(MARKDOWN)), max_size=12))
@settings(max_examples=40, deadline=None)
def test_markdown_looks_the_same_whatever_pieces_it_arrives_in(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(MARKDOWN)]
    pieces = [MARKDOWN[start:stop] for start, stop in pairwise(edges)]
    assert streamed(pieces) == streamed(list(MARKDOWN))


def test_markdown_on_a_terminal_ends_as_it_would_in_a_file() -> None:
    pieces = [MARKDOWN[i : i + 5] for i in range(0, len(MARKDOWN), 5)]
    shown = screen(streamed(pieces, terminal=True))
    plain = "\n".join(line.rstrip() for line in streamed(pieces).splitlines())
    assert shown == plain


def test_an_answer_longer_than_the_terminal_is_not_repeated() -> None:
    items = "".join(f"- item {number}\n" for number in range(40))
    shown = screen(streamed([items[i : i + 4] for i in range(0, len(items), 4)], terminal=True))
    assert [shown.count(f"item {number}\n") for number in range(39)] == [1] * 39


def test_while_it_streams_the_terminal_shows_the_end_of_a_long_block() -> None:
    out = io.StringIO()
    with MarkdownStream(Console(file=out, force_terminal=True, width=60, height=8)) as stream:
        for number in range(40):
            stream.push(f"- item {number}\n")
        sleep(SECONDS_BETWEEN_DRAWS)
        start = out.tell()
        stream.push("- the last")
        drawn = out.getvalue()[start:]
    assert "the last" in drawn
    assert "item 39" in drawn
    assert "item 20" not in drawn


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("one\n\ntwo", "one\n\n"),
        ("one\n\n", ""),
        ("one\n\ntwo\n\nthree", "one\n\n"),
        ("\n\none", ""),
        ("- a\n\n- b", ""),
        ("- a\n\n  more", ""),
        ("- a\n\n*", ""),
        ("- a\n\n**b", "- a\n\n"),
        ("1. a\n\n2", ""),
        ("```\na\n\nb", ""),
        ("```\na\n```\n\nb", "```\na\n```\n\n"),
        ("~~~\n```\n\nb", ""),
        ("````\n```\n\nb", ""),
    ],
)
def test_only_a_block_that_cannot_change_is_finished(text: str, first: str) -> None:
    assert text[: first_block(text)] == first


def wrapped(pieces: list[str], width: int) -> str:
    out = io.StringIO()
    text = WrappedText(Console(file=out, width=width), style="dim")
    for piece in pieces:
        text.push(piece)
    text.finish()
    return out.getvalue()


@given(
    st.text(alphabet="ab é漢字🙂 \n", max_size=120),
    st.integers(4, 30),
    st.integers(1, 7),
)
@settings(max_examples=150, deadline=None)
def test_wrapping_loses_no_character_and_does_not_depend_on_the_pieces(
    text: str, width: int, size: int
) -> None:
    shown = wrapped([text[i : i + size] for i in range(0, len(text), size)], width)
    assert shown == wrapped([text], width)
    assert "".join(shown.split()) == "".join(text.split())


def test_words_are_not_broken_at_the_edge() -> None:
    text = "the quick brown fox jumps over the lazy dog " * 4
    lines = wrapped([text], 20).splitlines()
    assert all(cell_len(line.rstrip()) <= 20 for line in lines)
    assert " ".join(lines).split() == text.split()


def test_chinese_lines_break_after_any_character() -> None:
    lines = wrapped(["漢字" * 15], 20).splitlines()
    assert [cell_len(line) for line in lines] == [20, 20, 20]
