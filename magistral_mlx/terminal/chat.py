"""The chat command: questions from prompt_toolkit, replies as in `ask`, a status line below."""

import sys
from collections.abc import Callable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory
from prompt_toolkit.shortcuts import CompleteStyle
from rich.console import Console

from magistral_mlx.errors import EngineError, RequestError, UserError
from magistral_mlx.folders import state_folder
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.terminal.chat_session import COMMANDS, ChatSession
from magistral_mlx.terminal.command_options import Model, OpeningOptions, ReplyOptions
from magistral_mlx.terminal.console import consoles, exit_codes
from magistral_mlx.terminal.model import AnsweringModel, open_chosen
from magistral_mlx.terminal.reply import ShownReply, print_figures, show_reply
from magistral_mlx.terminal.reply_views import TerminalView
from magistral_mlx.text.conversation import Message

ReadLine = Callable[[str], str]
"""Takes the status line to show; returns a line that the user typed."""


@takes_groups
def chat_command(*, model: Model = None, reply: ReplyOptions, opening: OpeningOptions) -> None:
    """Chat with the model. /help in the chat lists its commands; Ctrl-C stops a reply."""
    console, errors = consoles()
    with exit_codes(errors):
        if not (console.is_terminal and sys.stdin.isatty()):
            raise RequestError("chat needs a terminal: in a pipe, use magistral-mlx ask.")
        session = ChatSession(reply.generation(), system=reply.system)
        with open_chosen(model, opening.opening(), errors=errors) as opened:
            read_line = prompt_line(state_folder() / "chat_history")
            run_chat(opened, session, console=console, read_line=read_line)


def run_chat(
    model: AnsweringModel, session: ChatSession, *, console: Console, read_line: ReadLine
) -> None:
    """Answer lines until /quit or the end of input.

    Ctrl-C stops a reply; at the prompt it clears the line.
    """
    chat = _Chat(model, session, console)
    console.print(f"{model.name} · /help lists the commands", style="dim", highlight=False)
    while True:
        try:
            line = read_line(chat.status()).strip()
        except KeyboardInterrupt:
            console.print("Ctrl-D or /quit ends the chat.", style="dim")
            continue
        except EOFError:
            return
        if line == "/quit":
            return
        if line:
            chat.take(line)


def prompt_line(history: Path) -> ReadLine:
    """Read lines from the keyboard, with history and completion of commands."""
    history.parent.mkdir(parents=True, exist_ok=True)
    prompt: PromptSession[str] = PromptSession(
        history=FileHistory(str(history)),
        completer=WordCompleter(COMMANDS, sentence=True),
        complete_style=CompleteStyle.READLINE_LIKE,
    )

    def read(status: str) -> str:
        return prompt.prompt("> ", bottom_toolbar=f" {status}")

    return read


class _Chat:
    def __init__(self, model: AnsweringModel, session: ChatSession, console: Console) -> None:
        self._model = model
        self._session = session
        self._console = console
        self._speed: float | None = None

    def status(self) -> str:
        """The used and the free part of the window, settings, and the last reply's speed."""
        # The conversation with a question of one word.
        messages = [*self._session.messages, Message("user", "?")]
        used = self._model.prompt_tokens(messages, self._session.options)
        parts = [
            f"window {used:,} used, {max(0, self._model.window - used):,} free",
            f"reasoning {'kept' if self._session.options.history == 'keep' else 'dropped'}",
        ]
        if self._session.options.thinking_budget is not None:
            parts.append(f"thinking budget {self._session.options.thinking_budget:,}")
        if self._speed is not None:
            parts.append(f"{self._speed:.1f} tok/s")
        return " · ".join(parts)

    def take(self, line: str) -> None:
        """Handle a command or a question. Refusals are printed, and the chat continues."""
        try:
            if line.startswith("/"):
                self._say(self._session.run(line))
            else:
                self._answer(line)
        except (UserError, EngineError) as error:
            self._console.print(str(error), style="red", markup=False, highlight=False)

    def _answer(self, question: str) -> None:
        messages = self._session.ask(question)
        self._console.print()
        try:
            events = self._model.stream(messages, self._session.options)
            reply = show_reply(events, TerminalView(self._console))
        except (UserError, EngineError):
            self._session.take_back()
            raise
        self._finish(reply)

    def _finish(self, reply: ShownReply) -> None:
        kept = self._session.take(reply)
        if reply.finished is not None:
            self._speed = reply.finished.timings.decode_tokens_per_second
            print_figures(reply.finished, self._console, window=self._model.window)
        else:
            self._say("\nStopped.")
        if not kept:
            self._say("There was no answer: the question was removed from the conversation.")

    def _say(self, message: str) -> None:
        self._console.print(message, style="dim", markup=False, highlight=False)
