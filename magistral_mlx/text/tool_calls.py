"""Tool calls in an output: control tokens and text to events."""

import json
import logging
import re
import secrets
import string
from collections.abc import Callable
from typing import Literal

from magistral_mlx.events import ToolCallArguments, ToolCallBegin, ToolCallEnd, ToolCallEvent
from magistral_mlx.text.conversation import ToolCall

CALL, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"

Piece = ToolCallEvent | str
"""An event, or text that belongs to the answer."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""The names that mistral-common accepts in a prompt, so that every call can be answered."""

_WHITE = " \t\r\n"

logger = logging.getLogger(__name__)


class ToolCallParser:
    """Reads "[TOOL_CALLS]name[ARGS]{…}", with or without "[CALL_ID]id", and the older list
    "[TOOL_CALLS][{"name": …, "arguments": …}]".

    Only control tokens count; text that looks like them is text. Arguments are emitted while they
    arrive. A call that does not parse is given back as text, unchanged, with a line in the log. If
    it had begun already, ToolCallEnd says that it is not complete.
    """

    def __init__(self, *, fresh_id: Callable[[], str] | None = None) -> None:
        """Start before the first token. fresh_id: makes ids for calls without one."""
        self._fresh_id = fresh_id or _random_id
        self._phase: Literal["none", "name", "id", "arguments", "list", "after"] = "none"
        self._calls = 0
        self._open = False  # a call has begun and not ended
        self._raw = ""
        self._part = ""
        self._name = ""
        self._id = ""
        self._nesting = _Nesting()

    def control(self, name: str) -> list[Piece]:
        """The next token is the control token of this name."""
        if name == CALL:
            unfinished = self.finish()
            self._raw = CALL
            self._enter("name")
            return unfinished
        if self._phase in ("none", "after"):
            self._phase = "none"
            return [name]
        self._raw += name
        part = self._part.strip()
        if self._phase == "name" and name in (ARGS, CALL_ID) and _NAME.fullmatch(part):
            self._name, self._id = part, ""
            self._enter("id" if name == CALL_ID else "arguments")
            return []
        if self._phase == "id" and name == ARGS and _NAME.fullmatch(part):
            self._id = part
            self._enter("arguments")
            return []
        return self._break(f"{name} does not belong there")

    def text(self, text: str) -> list[Piece]:
        """The next piece of text."""
        if self._phase == "after":
            text = text.lstrip(_WHITE)
            self._phase = "none" if text else "after"
        if self._phase in ("none", "after"):
            return [text] if text else []
        self._raw += text
        if self._phase in ("arguments", "list"):
            return self._read_json(text)
        self._part += text
        if self._phase == "name" and self._part.lstrip(_WHITE).startswith("["):
            text, self._part = self._part, ""
            self._enter("list")
            return self._read_json(text)
        if not re.fullmatch(rf"[{_WHITE}]*({_NAME.pattern})?[{_WHITE}]*", self._part):
            return self._break("its name or id has a character that is not allowed")
        return []

    def finish(self) -> list[Piece]:
        """The output ends, or another call begins."""
        if self._phase in ("none", "after"):
            return []
        return self._break("it was cut off")

    def _enter(self, phase: Literal["name", "id", "arguments", "list"]) -> None:
        self._phase, self._part, self._nesting = phase, "", _Nesting()

    def _read_json(self, text: str) -> list[Piece]:
        """Continue the arguments or the list of calls, which the last bracket completes."""
        if not self._part:
            text = text.lstrip(_WHITE)
        if not text:
            return []
        opening = "[" if self._phase == "list" else "{"
        if not self._part and not text.startswith(opening):
            return self._break(f"it does not begin with {opening}")
        end = self._nesting.end(text)
        piece, rest = (text, "") if end is None else (text[:end], text[end:])
        self._part += piece
        pieces = self._begin_call() if self._phase == "arguments" and not self._open else []
        if self._phase == "arguments":
            pieces.append(ToolCallArguments(self._calls, piece))
        if end is None:
            return pieces
        self._raw = self._raw.removesuffix(rest)
        pieces += self._end_list() if self._phase == "list" else self._end_call()
        return [*pieces, *(self.text(rest) if rest else [])]

    def _begin_call(self) -> list[Piece]:
        self._open = True
        return [ToolCallBegin(self._calls, self._id or self._fresh_id(), self._name)]

    def _end_call(self) -> list[Piece]:
        if not isinstance(_parsed(self._part), dict):
            return self._break("its arguments are not a JSON object")
        ended = ToolCallEnd(self._calls, complete=True)
        self._calls, self._open, self._phase = self._calls + 1, False, "after"
        return [ended]

    def _end_list(self) -> list[Piece]:
        calls = _listed(_parsed(self._part))
        if not calls:
            return self._break("the list does not hold calls only")
        pieces: list[Piece] = []
        for call_id, name, arguments in calls:
            self._id, self._name = call_id, name
            pieces += [*self._begin_call(), ToolCallArguments(self._calls, arguments)]
            pieces.append(ToolCallEnd(self._calls, complete=True))
            self._calls += 1
        self._open, self._phase = False, "after"
        return pieces

    def _break(self, reason: str) -> list[Piece]:
        """Not a call after all: its text belongs to the answer."""
        logger.warning("A tool call that does not parse is given back as text: %s.", reason)
        pieces: list[Piece] = []
        if self._open:
            pieces.append(ToolCallEnd(self._calls, complete=False))
            self._calls, self._open = self._calls + 1, False
        self._phase = "none"
        return [*pieces, self._raw]


class ToolCallCollector:
    """Collects the complete calls among the events of an output."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[str, str]] = {}
        self._arguments: dict[int, str] = {}
        self._complete: list[int] = []

    def add(self, event: ToolCallEvent) -> None:
        """Add the next event of a call."""
        match event:
            case ToolCallBegin(index, call_id, name):
                self._names[index] = (call_id, name)
                self._arguments[index] = ""
            case ToolCallArguments(index, text):
                self._arguments[index] += text
            case ToolCallEnd(index, complete):
                self._complete += [index] if complete else []

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The complete calls so far."""
        return tuple(ToolCall(*self._names[i], self._arguments[i]) for i in self._complete)


class _Nesting:
    """Finds the end of a JSON object or list that arrives in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def end(self, text: str) -> int | None:
        """Number of characters up to and including the closing bracket, or None."""
        for position, character in enumerate(text, start=1):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return position
        return None


def _parsed(text: str) -> object:
    """The value of JSON text, or None if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _listed(calls: object) -> list[tuple[str, str, str]]:
    """Id, name and arguments of the calls in a list; empty unless all are calls."""
    if not isinstance(calls, list):
        return []
    read = [_listed_call(call) for call in calls]
    return [call for call in read if call is not None] if all(read) else []


def _listed_call(call: object) -> tuple[str, str, str] | None:
    if not isinstance(call, dict):
        return None
    name, arguments, call_id = call.get("name"), call.get("arguments", {}), call.get("id")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    if not isinstance(arguments, dict):
        return None
    if not isinstance(call_id, str) or not _NAME.fullmatch(call_id):
        call_id = ""
    return call_id, name, json.dumps(arguments, ensure_ascii=False)


def _random_id() -> str:
    """Nine letters and digits, as v11's ids."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))
