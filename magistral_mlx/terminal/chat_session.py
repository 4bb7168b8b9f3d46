"""A chat's messages and settings, and the slash commands that change them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from magistral_mlx.errors import RequestError, UserError
from magistral_mlx.options import GenerationOptions
from magistral_mlx.terminal.reply import ShownReply
from magistral_mlx.text.conversation import Message

HELP = """\
/system TEXT   add instructions of your own to the system prompt; alone: remove them
/reset         forget the conversation
/keep, /drop   keep earlier reasoning in the conversation, or only the answers
/think N       at most N tokens of reasoning; alone: no limit but the window
/save FILE     write the conversation, as JSON for FILE.json and else as Markdown
/quit          end (or Ctrl-D); Ctrl-C stops an answer"""


class ChatSession:
    """What the next question is asked with. Commands return what to tell the user."""

    def __init__(self, options: GenerationOptions, *, system: str | None = None) -> None:
        self.options = options
        self._system = system
        self._turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """The user's system text, if any, and all turns."""
        system = [Message("system", self._system)] if self._system else []
        return [*system, *self._turns]

    def ask(self, question: str) -> list[Message]:
        """Add a question; returns the messages to send."""
        self._turns.append(Message("user", question))
        return self.messages

    def take(self, reply: ShownReply) -> bool:
        """Add the reply to the last question. One without an answer takes the question back.

        A question that stays without an answer would be answered with the next one.
        """
        if not reply.answer.strip():
            self.take_back()
            return False
        self._turns.append(Message("assistant", reply.answer, reasoning=reply.reasoning or None))
        return True

    def take_back(self) -> None:
        """Forget the last question."""
        self._turns.pop()

    def run(self, line: str) -> str:
        """Carry out a line that begins with a slash. Raises RequestError for a wrong one."""
        name, _, argument = line.strip().partition(" ")
        commands: Mapping[str, Callable[[str], str]] = {
            "/system": self._set_system,
            "/reset": self._reset,
            "/keep": self._keep,
            "/drop": self._drop,
            "/think": self._think,
            "/save": self._save,
            "/help": lambda _: HELP,
        }
        if name not in commands:
            raise RequestError(f"There is no command {name}: /help lists them.")
        return commands[name](argument.strip())

    def _set_system(self, text: str) -> str:
        self._system = text or None
        return "Your instructions are part of the system prompt." if text else "Removed."

    def _reset(self, _: str) -> str:
        self._turns.clear()
        return "The conversation is forgotten."

    def _keep(self, _: str) -> str:
        self.options = replace(self.options, history="keep")
        return "Earlier reasoning stays in the conversation."

    def _drop(self, _: str) -> str:
        self.options = replace(self.options, history="drop")
        return "Earlier answers stay in the conversation without their reasoning."

    def _think(self, argument: str) -> str:
        if argument and not argument.isdecimal():
            raise RequestError(f"{argument!r} is not a number of tokens: write /think 2000.")
        budget = int(argument) if argument else None
        self.options = replace(self.options, thinking_budget=budget)
        return "No thinking budget." if budget is None else f"Thinking budget: {budget:,} tokens."

    def _save(self, argument: str) -> str:
        if not argument:
            raise RequestError("No file was named: write /save chat.md or /save chat.json.")
        path = Path(argument).expanduser()
        text = as_json(self.messages) if path.suffix == ".json" else as_markdown(self.messages)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise UserError(f"{path} exists: choose another name.") from None
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.") from error
        return f"Saved to {path}."


def as_json(messages: list[Message]) -> str:
    """The messages as a JSON list."""
    shown = [{key: value for key, value in asdict(m).items() if value} for m in messages]
    return json.dumps(shown, ensure_ascii=False, indent=2) + "\n"


def as_markdown(messages: list[Message]) -> str:
    """The messages as a document, reasoning as quotations."""
    parts: list[str] = []
    for message in messages:
        parts.append(f"## {message.role.capitalize()}")
        if message.reasoning:
            parts.append("\n".join(f"> {line}".rstrip() for line in message.reasoning.splitlines()))
        parts.append(message.content)
    return "\n\n".join(parts) + "\n"
