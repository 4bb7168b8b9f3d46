"""The places where a reply is shown: a terminal, a pipe, or nowhere while JSON is collected."""

from contextlib import ExitStack
from time import monotonic
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.status import Status

from magistral_mlx.events import PrefillProgress
from magistral_mlx.terminal.markdown_stream import MarkdownStream
from magistral_mlx.terminal.wrapped_text import WrappedText

SECONDS_WITHOUT_A_WORD = 0.5
"""A prompt that takes longer to prefill shows how far it is."""


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def prefill(self, progress: PrefillProgress) -> None:
        """Show how far a long prompt is."""
        if progress.done >= progress.total:
            return
        if monotonic() - self._started >= SECONDS_WITHOUT_A_WORD:
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
    """The answer as it is, for pipes and files. Reasoning goes elsewhere or nowhere."""

    def __init__(self, out: IO[str], *, reasoning_out: IO[str] | None) -> None:
        self._out = out
        self._reasoning_out = reasoning_out
        self._last = {"answer": "\n", "reasoning": "\n"}

    def __enter__(self) -> "PlainView":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and issubclass(kind, BrokenPipeError):
            return
        self._end("reasoning", self._reasoning_out)
        self._end("answer", self._out)

    def prefill(self, progress: PrefillProgress) -> None:
        """Show nothing: a pipe gets text only."""

    def reasoning(self, text: str) -> None:
        """Write a piece of reasoning, where it was asked for."""
        if self._reasoning_out is not None:
            self._write("reasoning", text, self._reasoning_out)

    def answer(self, text: str) -> None:
        """Write a piece of the answer."""
        self._end("reasoning", self._reasoning_out)
        self._write("answer", text, self._out)

    def _write(self, part: str, text: str, out: IO[str]) -> None:
        out.write(text)
        out.flush()
        self._last[part] = text[-1:] or self._last[part]

    def _end(self, part: str, out: IO[str] | None) -> None:
        if out is not None and self._last[part] != "\n":
            self._write(part, "\n", out)


class NoView:
    """Shows nothing: the reply is printed whole afterwards."""

    def __enter__(self) -> "NoView":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is half shown."""

    def prefill(self, progress: PrefillProgress) -> None:
        """Show nothing."""

    def reasoning(self, text: str) -> None:
        """Show nothing."""

    def answer(self, text: str) -> None:
        """Show nothing."""
