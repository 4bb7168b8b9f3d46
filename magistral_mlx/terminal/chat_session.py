"""A chat's messages and settings, and the slash commands that change them."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from magistral_mlx.errors import RequestError, UserError
from magistral_mlx.options import GenerationOptions
from magistral_mlx.terminal.reply import ShownReply
from magistral_mlx.text.conversation import Message

HELP = """\
/system TEXT   add your instructions to the system prompt; without TEXT: remove them
/reset         start a new conversation
/keep, /drop   keep earlier reasoning in the conversation, or only the answers
/think N       set the thinking budget to N tokens; without N: no budget
/save FILE     save the conversation, as JSON for FILE.json, otherwise as Markdown
/quit          end the chat (or Ctrl-D); Ctrl-C stops a reply"""

COMMANDS = ["/system", "/reset", "/keep", "/drop", "/think", "/save", "/help", "/quit"]


class ChatSession:
    """The messages and options of the next request. Commands return a message for the user."""

    def __init__(self, options: GenerationOptions, *, system: str | None = None) -> None:
        self.options = options
        self._system = system
        self._turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """The user's system text, if there is one, and all turns."""
        system = [Message("system", self._system)] if self._system else []
        return [*system, *self._turns]

    def ask(self, question: str) -> list[Message]:
        """Add a question; returns the messages to send."""
        self._turns.append(Message("user", question))
        return self.messages

    def take(self, reply: ShownReply) -> bool:
        """Add a reply; one without an answer removes its question instead, and returns False.

        Otherwise the next reply would answer both questions.
        """
        if not reply.answer.strip():
            self.take_back()
            return False
        self._turns.append(Message("assistant", reply.answer, reasoning=reply.reasoning or None))
        return True

    def take_back(self) -> None:
        """Remove the last question."""
        self._turns.pop()

    def run(self, line: str) -> str:
        """Run a line that begins with a slash. Raises RequestError for an unknown command."""
        name, _, argument = line.strip().partition(" ")
        argument = argument.strip()
        match name:
            case "/system":
                self._system = argument or None
                change = "Added to" if argument else "Removed from"
                return f"{change} the system prompt."
            case "/reset":
                self._turns.clear()
                return "This is a new conversation."
            case "/keep":
                self.options = replace(self.options, history="keep")
                return "Earlier reasoning stays in the conversation."
            case "/drop":
                self.options = replace(self.options, history="drop")
                return "Earlier answers stay in the conversation without their reasoning."
            case "/think":
                return self._think(argument)
            case "/save":
                return self._save(argument)
            case "/help":
                return HELP
        raise RequestError(f"There is no command {name}: /help lists them.")

    def _think(self, argument: str) -> str:
        if argument and not argument.isdecimal():
            raise RequestError(f"{argument!r} is not a number of tokens: write /think 2000.")
        budget = int(argument) if argument else None
        self.options = replace(self.options, thinking_budget=budget)
        return "No thinking budget." if budget is None else f"Thinking budget: {budget:,} tokens."

    def _save(self, argument: str) -> str:
        if not argument:
            raise RequestError("The file name is missing: write /save chat.md or /save chat.json.")
        path = Path(argument).expanduser()
        text = _as_json(self.messages) if path.suffix == ".json" else _as_markdown(self.messages)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise UserError(f"{path} exists: choose another name.") from None
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): choose another folder."
            ) from error
        return f"Saved to {path}."


def _as_json(messages: list[Message]) -> str:
    shown = [{key: value for key, value in asdict(m).items() if value} for m in messages]
    return json.dumps(shown, ensure_ascii=False, indent=2) + "\n"


def _as_markdown(messages: list[Message]) -> str:
    """A document with reasoning as quotations."""
    parts: list[str] = []
    for message in messages:
        parts.append(f"## {message.role.capitalize()}")
        if message.reasoning:
            parts.append("\n".join(f"> {line}".rstrip() for line in message.reasoning.splitlines()))
        parts.append(message.content)
    return "\n\n".join(parts) + "\n"
