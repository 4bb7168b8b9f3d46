"""Markdown that arrives in pieces: finished blocks stay where they are, the last one is redrawn."""

import re
from time import monotonic
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

from magistral_mlx.terminal.wrapped_text import CONTROL_CODES

SECONDS_BETWEEN_DRAWS = 0.08
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_CONTINUES = re.compile(r"\s|[-*+](\s|$)|\d{1,9}([.)]|$)|$")
"""Lines, perhaps incomplete, that may belong to the block above a blank line."""


class MarkdownStream:
    """A context manager. Only the open block is redrawn, so that long answers do not flicker.

    Leaving the context, also by Ctrl-C, prints the open block for good.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            console=console, auto_refresh=False, transient=True, vertical_overflow="crop"
        )
        self._open = ""
        self._printed = False
        self._drawn_at = 0.0

    def __enter__(self) -> "MarkdownStream":
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.update("")
        self._live.stop()
        self._print(self._open)
        self._open = ""

    def push(self, text: str) -> None:
        """Take the next piece of Markdown."""
        self._open += text.translate(CONTROL_CODES)
        split = first_block(self._open)
        if split:
            self._live.update("", refresh=True)
        elif monotonic() - self._drawn_at < SECONDS_BETWEEN_DRAWS:
            return
        while split:
            self._print(self._open[:split])
            self._open = self._open[split:]
            split = first_block(self._open)
        self._draw_open_block()

    def _draw_open_block(self) -> None:
        room = max(1, self._console.height - 2)
        self._live.update(_Block(self._open, after_block=self._printed, most=room), refresh=True)
        self._drawn_at = monotonic()

    def _print(self, block: str) -> None:
        if not block.strip():
            return
        self._console.print(_Block(block, after_block=self._printed, most=None), end="")
        self._printed = True


def first_block(markdown: str) -> int:
    """Characters of the first block, when no later text can change it; else 0.

    It ends at a blank line outside a code fence that is followed by a line at the margin: what is
    indented, or the next item of a list, belongs to the block before.
    """
    position = 0
    fence = ""
    blank_before = False
    for line in markdown.splitlines(keepends=True):
        if blank_before and not fence and _opens_block(line) and markdown[:position].strip():
            return position
        fence = _fence_after(line, fence)
        blank_before = not line.strip()
        position += len(line)
    return 0


def _opens_block(line: str) -> bool:
    return not _CONTINUES.match(line)


def _fence_after(line: str, fence: str) -> str:
    match = _FENCE.match(line)
    if not match:
        return fence
    if not fence:
        return match[1]
    closes = match[1].startswith(fence) and not line.strip().strip(fence[0])
    return "" if closes else fence


class _Block:
    """A rendered block without the blank lines that rich puts around tables and code.

    Blocks are set apart by one blank line. most: last lines that are shown, None for all.
    """

    def __init__(self, markdown: str, *, after_block: bool, most: int | None) -> None:
        self._markdown = markdown
        self._after_block = after_block
        self._most = most

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(Markdown(self._markdown), options, pad=False)
        while lines and _is_blank(lines[0]):
            lines.pop(0)
        while lines and _is_blank(lines[-1]):
            lines.pop()
        if self._after_block and lines:
            lines.insert(0, [])
        for line in lines if self._most is None else lines[-self._most :]:
            yield from line
            yield Segment.line()


def _is_blank(line: list[Segment]) -> bool:
    coloured = any(segment.style and segment.style.bgcolor for segment in line)
    return not coloured and not "".join(segment.text for segment in line).strip()
