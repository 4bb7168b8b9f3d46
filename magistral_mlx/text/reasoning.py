"""Splits the tokens of an output into reasoning and answer while they stream."""

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

from magistral_mlx.spec import THINK_CLOSE, THINK_OPEN
from magistral_mlx.text.tokenizer import Tokenizer

OutputState = Literal["auto", "reasoning", "answer"]
"""The part that an output is in. "auto": not known yet whether it opens with reasoning."""

_TOOL_CONTROLS = ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")
_WHITE = b" \t\r\n\v\f"

SplitKind = Literal["reasoning", "answer", "control", "call"]


@dataclass(frozen=True, slots=True)
class SplitBytes:
    """Bytes that a token completed, all of one kind.

    From a [TOOL_CALLS] token on, "control" is the name of a tool call's control token, and "call"
    the text between and after them. `ends`: the text of this kind ends here.
    """

    kind: SplitKind
    data: bytes
    ends: bool = False


@dataclass(frozen=True, slots=True)
class SplitText:
    """A whole text, split as OutputSplitter splits a v11 stream."""

    reasoning: str | None
    """None if the text does not open with "<think>"."""
    answer: str
    closed: bool
    """False if the reasoning has no "</think>"."""


def split_reasoning(text: str) -> SplitText:
    """Split a text that may open with a "<think>" block, such as a client's assistant message."""
    block = re.match(
        rf"[ \t\r\n\v\f]*{THINK_OPEN}\n?(.*?)(\n?{THINK_CLOSE}\n*|\Z)", text, flags=re.DOTALL
    )
    if block is None:
        return SplitText(reasoning=None, answer=text, closed=True)
    return SplitText(reasoning=block[1], answer=text[block.end() :], closed=bool(block[2]))


class OutputSplitter:
    """Splits one output into reasoning and answer, token by token.

    Reasoning is the text between "<think>" (v13: [THINK]) at the start of the output, after
    optional white space, and the first "</think>" (v13: [/THINK]). White space before the opening
    tag, one newline after it, one newline before the closing tag and all newlines after that
    belong to the tags. Everything else is text: later tags are plain text of the answer, and
    reasoning that is never closed stays reasoning. Control tokens have no text, except those of a
    tool call, which end the reasoning and are given as their names.

    It works on bytes, so it does not matter how tokens cut tags and characters. It holds back
    bytes that may still become a tag, with the white space that belongs to the tag.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, state: OutputState = "auto", tool_calls: bool = True
    ) -> None:
        """Start before the first token.

        state: the part that the end of the prompt has opened.
        tool_calls: split off tool calls; otherwise they, and their control tokens, are answer text.
        """
        self._tokenizer = tokenizer
        self._tool_calls = tool_calls
        self._calling = False
        # Empty if the tags are control tokens: then no text is a tag.
        self._open = b"" if tokenizer.has_think_control else THINK_OPEN.encode()
        self._close = b"" if tokenizer.has_think_control else THINK_CLOSE.encode()
        self._tool_controls = {tokenizer.control_id(name): name for name in _TOOL_CONTROLS}
        self.state: OutputState = state
        """The part that the output is in after the tokens pushed so far."""
        self._skip_newlines: Literal["none", "one", "all"] = "none"
        self._held = _HeldBytes()

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of reasoning text, without tags and their newlines.

        Tokens held back because a closing tag may have begun count until the tag is complete.
        """
        held = self._held.uncounted_tokens if self.state == "reasoning" else 0
        return self._held.counted_tokens + held

    def push(self, token_id: int) -> list[SplitBytes]:
        """The bytes that this token completes, by kind."""
        if (name := self._tool_controls.get(token_id)) is not None:
            return [*self._end_text(), self._control(name)]
        if token_id == self._tokenizer.think_open_id:
            return self._open_by_control()
        if token_id == self._tokenizer.think_close_id:
            return self._close_by_control()
        self._held.append(self._tokenizer.token_bytes(token_id))
        return self._advance()

    def finish(self) -> list[SplitBytes]:
        """The bytes that were held back. An output of only white space is an answer."""
        if self.state == "auto":
            self.state = "answer"
        return self._release(len(self._held), ends=True)

    def _advance(self) -> list[SplitBytes]:
        if self.state == "auto":
            self._decide()
        pieces: list[SplitBytes] = []
        if self.state == "reasoning":
            pieces += self._advance_reasoning()
        if self.state == "answer":
            self._drop_newlines()
            pieces += self._release(len(self._held))
        return pieces

    def _decide(self) -> None:
        start = self._held.data.lstrip(_WHITE)
        if not start or (start != self._open and self._open.startswith(start)):
            return
        if self._open and start.startswith(self._open):
            self._enter_reasoning(len(self._held) - len(start) + len(self._open))
        else:
            self.state = "answer"

    def _advance_reasoning(self) -> list[SplitBytes]:
        self._drop_newlines()
        end = self._held.data.find(self._close) if self._close else -1
        if end < 0:
            return self._release(len(self._held) - self._bytes_of_a_closing())
        thought = end - self._held.data[:end].endswith(b"\n")
        return self._close_reasoning(thought, tag=end - thought + len(self._close))

    def _bytes_of_a_closing(self) -> int:
        """Number of last bytes that may begin a closing tag."""
        data, closing = self._held.data, b"\n" + self._close
        sizes = range(min(len(data), len(closing)), 0, -1)
        tags = closing, self._close
        starts = (size for size in sizes if any(tag.startswith(data[-size:]) for tag in tags))
        return next(starts, 0)

    def _open_by_control(self) -> list[SplitBytes]:
        if self.state == "auto":
            self._enter_reasoning(len(self._held))
        return []

    def _close_by_control(self) -> list[SplitBytes]:
        if self.state != "reasoning":
            return []
        # The only bytes held back now are the newline that belongs to the tag.
        return self._close_reasoning(0, tag=len(self._held))

    def _enter_reasoning(self, tag: int) -> None:
        self._held.take(tag, count=False)
        self.state, self._skip_newlines = "reasoning", "one"

    def _close_reasoning(self, thought: int, *, tag: int) -> list[SplitBytes]:
        pieces = self._release(thought, ends=True)
        self._held.take(tag, count=False)
        self.state, self._skip_newlines = "answer", "all"
        return pieces

    def _end_text(self) -> list[SplitBytes]:
        pieces = self._release(len(self._held), ends=True)
        self.state, self._skip_newlines = "answer", "none"
        return pieces

    def _control(self, name: str) -> SplitBytes:
        self._calling |= self._tool_calls and name == _TOOL_CONTROLS[0]
        kind: SplitKind = "control" if self._calling else "answer"
        return SplitBytes(kind, name.encode(), ends=True)

    def _drop_newlines(self) -> None:
        if self._skip_newlines == "none":
            return
        newlines = len(self._held) - len(self._held.data.lstrip(b"\n"))
        dropped = min(newlines, 1) if self._skip_newlines == "one" else newlines
        self._held.take(dropped, count=False)
        if len(self._held) or (self._skip_newlines == "one" and dropped):
            self._skip_newlines = "none"

    def _release(self, size: int, *, ends: bool = False) -> list[SplitBytes]:
        data = self._held.take(size, count=self.state == "reasoning")
        kind: SplitKind = "call" if self._calling else "answer"
        if self.state == "reasoning":
            kind = "reasoning"
        return [SplitBytes(kind, data, ends)] if data or ends else []


class _HeldBytes:
    """Bytes held back, and the number of tokens whose released bytes counted."""

    def __init__(self) -> None:
        self.data = b""
        self.counted_tokens = 0
        # For each token with bytes here: how many, and whether it was counted.
        self._tokens: deque[tuple[int, bool]] = deque()

    def __len__(self) -> int:
        return len(self.data)

    @property
    def uncounted_tokens(self) -> int:
        return sum(not counted for _, counted in self._tokens)

    def append(self, token: bytes) -> None:
        if token:
            self.data += token
            self._tokens.append((len(token), False))

    def take(self, size: int, *, count: bool) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        while size > 0:
            length, counted = self._tokens.popleft()
            self.counted_tokens += count and not counted
            if length > size:
                self._tokens.appendleft((length - size, counted or count))
            size -= length
        return taken
