"""Text that arrives in pieces, on a terminal: wrapped plain text, and Markdown."""

import re
from time import monotonic

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

CONTROL_CODES = dict.fromkeys(
    code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
)
"""For str.translate: a model must not send escape sequences to the terminal."""

SECONDS_BETWEEN_DRAWS = 0.08
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_CONTINUES = re.compile(r"\s|[-*+](\s|$)|\d{1,9}([.)]|$)|$")
"""Lines, perhaps incomplete, that may belong to the block above a blank line."""


class WrappedText:
    """Text in one style, broken between words at the terminal's width.

    A word is printed once it is complete, so that it never moves to the next line.
    """

    def __init__(self, console: Console, *, style: str) -> None:
        self._console = console
        self._style = style
        self._column = 0
        self._word = ""

    def push(self, text: str) -> None:
        """Take the next piece of text."""
        ready: list[str] = []
        for character in text.translate(CONTROL_CODES):
            if character.isspace():
                ready += [self._placed(self._word), self._space(character)]
                self._word = ""
            elif cell_len(character) == 2:
                # Chinese, Japanese and Korean lines may break after any character.
                ready.append(self._placed(self._word + character))
                self._word = ""
            else:
                self._word += character
        self._print("".join(ready))

    def finish(self) -> None:
        """Print the last word and end the line."""
        text = self._placed(self._word)
        self._word = ""
        self._print(text + ("\n" if self._column else ""))
        self._column = 0

    def _placed(self, word: str) -> str:
        width = cell_len(word)
        if self._column and self._column + width > self._console.width:
            self._column = width
            return "\n" + word
        self._column += width
        return word

    def _space(self, character: str) -> str:
        if character == "\n" or self._column >= self._console.width:
            self._column = 0
            return "\n"
        self._column += 1
        return " "

    def _print(self, text: str) -> None:
        if text:
            self._console.print(Text(text, style=self._style), end="", soft_wrap=True)


class MarkdownStream:
    """Markdown in a `with` block: finished blocks are printed, the open one is redrawn.

    So a long answer does not flicker. Leaving the block, also by Ctrl-C, prints the open one.
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

    def __exit__(self, *_: object) -> None:
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
    """The length of the first block in characters, or 0 while later text can change the block.

    It ends at a blank line outside a code fence, before a line at the margin: an indented line or
    the next list item continues the block.
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

    One blank line separates blocks. most: how many of the last lines to show; None: all.
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
