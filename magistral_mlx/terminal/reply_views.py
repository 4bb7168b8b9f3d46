"""Where a reply is shown while it arrives: on a terminal, or in files."""

from contextlib import ExitStack
from time import monotonic
from typing import IO

from rich.console import Console
from rich.status import Status

from magistral_mlx.events import PrefillProgress
from magistral_mlx.terminal.streamed_text import MarkdownStream, WrappedText

SECONDS_BEFORE_PROGRESS = 0.5
"""A prompt that takes longer to prefill shows its progress."""


class TerminalView:
    """Dimmed reasoning, then the answer as Markdown."""

    def __init__(self, console: Console, *, show_reasoning: bool = True) -> None:
        self._console = console
        self._show_reasoning = show_reasoning
        self._stack = ExitStack()
        self._status: Status | None = None
        self._thoughts: WrappedText | None = None
        self._markdown: MarkdownStream | None = None
        self._started = monotonic()

    def __enter__(self) -> "TerminalView":
        self._started = monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prefill(self, progress: PrefillProgress) -> None:
        """Show the progress of a long prompt."""
        slow = monotonic() - self._started >= SECONDS_BEFORE_PROGRESS
        if slow and progress.done < progress.total:
            self._say(f"Reading the prompt: {progress.done:,} of {progress.total:,} tokens")

    def reasoning(self, text: str) -> None:
        """Show the next piece of reasoning."""
        if not self._show_reasoning:
            self._say("Reasoning")
            return
        if self._thoughts is None:
            self._stack.close()
            self._thoughts = WrappedText(self._console, style="dim")
            self._stack.callback(self._thoughts.finish)
        self._thoughts.push(text)

    def answer(self, text: str) -> None:
        """Show the next piece of the answer."""
        if self._markdown is None:
            self._stack.close()
            if self._thoughts is not None:
                self._console.print()
            self._markdown = self._stack.enter_context(MarkdownStream(self._console))
        self._markdown.push(text)

    def _say(self, message: str) -> None:
        if self._status is None:
            self._status = self._stack.enter_context(self._console.status(message))
        self._status.update(message)


class PlainView:
    """Answer and reasoning as written, each to its file, or nowhere: for pipes and JSON."""

    def __init__(self, out: IO[str] | None, *, reasoning_out: IO[str] | None) -> None:
        self._outs = {"answer": out, "reasoning": reasoning_out}
        self._last = {"answer": "\n", "reasoning": "\n"}

    def __enter__(self) -> "PlainView":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, BrokenPipeError):
            self._end_line("reasoning")
            self._end_line("answer")

    def prefill(self, progress: PrefillProgress) -> None:
        """Show nothing: a pipe gets only text."""

    def reasoning(self, text: str) -> None:
        """Write a piece of reasoning."""
        self._write("reasoning", text)

    def answer(self, text: str) -> None:
        """Write a piece of the answer."""
        self._end_line("reasoning")
        self._write("answer", text)

    def _write(self, part: str, text: str) -> None:
        out = self._outs[part]
        if out is not None:
            out.write(text)
            out.flush()
            self._last[part] = text[-1:] or self._last[part]

    def _end_line(self, part: str) -> None:
        if self._last[part] != "\n":
            self._write(part, "\n")
