"""The chat: commands, what each question is asked with, and what Ctrl-C leaves behind."""

import io
import json
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from magistral_mlx import GenerationOptions
from magistral_mlx.errors import RequestError, UserError
from magistral_mlx.events import AnswerText, Failed, ReasoningText
from magistral_mlx.terminal.chat import prompt_line, run_chat
from magistral_mlx.terminal.chat_session import ChatSession
from magistral_mlx.text.conversation import Message
from tests.scripted_model import Script, ScriptedModel, reply


def chat(model: ScriptedModel, *lines: str | BaseException, system: str | None = None) -> str:
    """Type the lines, then end the input; returns the screen, each status line in brackets."""
    out = io.StringIO()
    console = Console(file=out, width=200)
    typed = iter([*lines, EOFError()])

    def read_line(status: str) -> str:
        console.print(f"<{status}>", markup=False, highlight=False)
        line = next(typed)
        if isinstance(line, BaseException):
            raise line
        return line

    session = ChatSession(GenerationOptions(), system=system)
    run_chat(model, session, console=console, read_line=read_line)
    return out.getvalue()


def test_a_later_question_brings_the_earlier_turns_with_their_reasoning() -> None:
    model = ScriptedModel(reply("think", "42"), reply("again", "43"))
    chat(model, "first", "second")
    assert model.asked[1][0] == [
        Message("user", "first"),
        Message("assistant", "42", reasoning="think"),
        Message("user", "second"),
    ]


def test_commands_change_what_the_next_question_is_asked_with() -> None:
    model = ScriptedModel(*[reply("r", "a") for _ in range(3)])
    chat(model, "/keep", "/think 50", "/system Be brief.", "one", "/drop", "/think", "two")
    first, second = model.asked
    assert (first[1].history, first[1].thinking_budget) == ("keep", 50)
    assert first[0][0] == Message("system", "Be brief.")
    assert (second[1].history, second[1].thinking_budget) == ("drop", None)


def test_reset_forgets_the_turns_and_keeps_the_system_text() -> None:
    model = ScriptedModel(reply("r", "a"), reply("r", "a"))
    chat(model, "one", "/reset", "two", system="Be brief.")
    assert model.asked[1][0] == [Message("system", "Be brief."), Message("user", "two")]


def test_system_alone_removes_the_text() -> None:
    model = ScriptedModel(reply("r", "a"))
    chat(model, "/system", "one", system="Be brief.")
    assert model.asked[0][0] == [Message("user", "one")]


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on_with_what_arrived() -> None:
    stopped: Script = [ReasoningText("r"), AnswerText("forty"), KeyboardInterrupt()]
    model = ScriptedModel(stopped, reply("r", "43"))
    shown = chat(model, "first", "second")
    assert "Stopped." in shown
    assert model.closed == 2
    assert model.asked[1][0][1] == Message("assistant", "forty", reasoning="r")


def test_a_question_stopped_before_its_answer_is_taken_back() -> None:
    model = ScriptedModel([ReasoningText("r"), KeyboardInterrupt()], reply("r", "43"))
    shown = chat(model, "first", "second")
    assert "question was removed" in shown
    assert model.asked[1][0] == [Message("user", "second")]


def test_ctrl_c_at_the_prompt_does_not_end_the_chat() -> None:
    model = ScriptedModel(reply("r", "a"))
    assert "Ctrl-D or /quit" in chat(model, KeyboardInterrupt(), "one")
    assert len(model.asked) == 1


def test_quit_ends_the_chat() -> None:
    model = ScriptedModel()
    chat(model, "/quit", "never asked")
    assert model.asked == []


def test_a_failure_is_shown_and_its_question_is_not_asked_again() -> None:
    model = ScriptedModel([AnswerText("x"), Failed("no memory")], reply("r", "43"))
    assert "no memory" in chat(model, "first", "second")
    assert model.asked[1][0] == [Message("user", "second")]


def test_the_status_line_counts_the_window_and_shows_the_speed() -> None:
    shown = chat(ScriptedModel(reply("r", "two words")), "three words here", "/keep", "/think 5")
    assert "<window 1 used, 999 free · reasoning dropped>" in shown
    assert "<window 6 used, 994 free · reasoning dropped · 41.2 tok/s>" in shown
    assert "<window 6 used, 994 free · reasoning kept · thinking budget 5 · 41.2 tok/s>" in shown


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/nonsense", "/help"),
        ("/think many", "/think 2000"),
        ("/think -1", "/think 2000"),
        ("/save", "/save chat.md"),
    ],
)
def test_a_wrong_command_is_refused_with_the_right_form(line: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        ChatSession(GenerationOptions()).run(line)
    assert message in chat(ScriptedModel(), line)


def test_help_lists_every_command() -> None:
    shown = chat(ScriptedModel(), "/help")
    for name in ("/system", "/reset", "/keep", "/drop", "/think", "/save", "/quit"):
        assert name in shown


def test_save_writes_markdown_or_json_and_never_overwrites(tmp_path: Path) -> None:
    model = ScriptedModel(reply("line one\nline two", "四十二"))
    chat(model, "how many?", f"/save {tmp_path / 'a b.md'}", f"/save {tmp_path / 'c.json'}")
    text = (tmp_path / "a b.md").read_text(encoding="utf-8")
    expected = "## User\n\nhow many?\n\n## Assistant\n\n> line one\n> line two\n\n四十二\n"
    assert text == expected
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8")) == [
        {"role": "user", "content": "how many?"},
        {"role": "assistant", "content": "四十二", "reasoning": "line one\nline two"},
    ]
    with pytest.raises(UserError, match="exists"):
        ChatSession(GenerationOptions()).run(f"/save {tmp_path / 'a b.md'}")
    with pytest.raises(UserError, match="cannot be written"):
        ChatSession(GenerationOptions()).run(f"/save {tmp_path / 'no' / 'a.md'}")


def test_the_prompt_remembers_lines_from_one_chat_to_the_next(tmp_path: Path) -> None:
    history = tmp_path / "state" / "history"
    up, enter = "\x1b[A", "\r"
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text(f"first question{enter}")
        assert prompt_line(history)("status") == "first question"
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text(f"{up}{enter}")
        assert prompt_line(history)("status") == "first question"
