"""The HTML of a growing Markdown text, and what has changed since a tab last asked."""

import re
from dataclasses import dataclass

from magistral_mlx.app.rendering.markdown import HtmlBlock, MarkdownRenderer

_FORMULAS = (
    (re.compile(r"\\\["), re.compile(r"\\\]")),
    (re.compile(r"\\begin\{"), re.compile(r"\\end\{[^{}]*\}")),
)
"""The marks of formulas that may contain blank lines or headings."""


@dataclass(frozen=True, slots=True)
class Patch:
    """`blocks` replace all blocks from index `start` on."""

    start: int
    blocks: tuple[str, ...]


class GrowingText:
    """Renders only the end of the text: earlier blocks no longer change.

    Not thread-safe.
    """

    def __init__(self, renderer: MarkdownRenderer) -> None:
        """An empty text."""
        self._renderer = renderer
        self._text = ""
        self._finished = False
        self._offset = 0  # characters of the text whose blocks are settled
        self._settled = 0  # blocks that will not change while the text grows
        self._blocks: list[str] = []
        self._changed: list[int] = []  # the version in which each block last changed

    def update(self, text: str, version: int) -> None:
        """Set the text of this version, which begins with the text of the last one."""
        if text == self._text:
            return
        self._text = text
        tail = text[self._offset :]
        blocks = self._renderer.blocks(with_ends(tail))
        self._replace(self._settled, [block.html for block in blocks], version)
        self._settle(tail, blocks)

    def finish(self, text: str, version: int) -> None:
        """Render the whole text once more, because links may be defined at its end."""
        if self._finished and text == self._text:
            return
        self._text, self._finished = text, True
        self._replace(0, [block.html for block in self._renderer.blocks(text)], version)

    def since(self, version: int) -> Patch:
        """The changes since this version."""
        start = next(
            (i for i, changed in enumerate(self._changed) if changed > version),
            len(self._blocks),
        )
        return Patch(start, tuple(self._blocks[start:]))

    def _replace(self, start: int, blocks: list[str], version: int) -> None:
        same = start
        while same < min(len(self._blocks), start + len(blocks)) and (
            self._blocks[same] == blocks[same - start]
        ):
            same += 1
        new = blocks[same - start :]
        if not new and same < len(self._blocks) and same > 0:
            self._changed[same - 1] = version  # tells tabs that the blocks after it are gone
        self._blocks[same:] = new
        self._changed[same:] = [version] * len(new)

    def _settle(self, tail: str, blocks: list[HtmlBlock]) -> None:
        """Settle all blocks but the last two, because the last line may still change them.

        Blocks from the start of an open formula on stay open: they may become part of it.
        """
        done = len(blocks) - 2
        formula = _open_formula(tail)
        while formula is not None and done > 0 and (blocks[done].start or 0) > formula:
            done -= 1
        if done < 1 or (start := blocks[done].start) is None or "\r" in tail:
            return
        self._offset += sum(len(line) + 1 for line in tail.split("\n")[:start])
        self._settled += done


def _ends_in_code(text: str) -> bool:
    """Whether a code fence is still open."""
    inside = False
    for line in map(str.strip, text.split("\n")):
        if line.startswith("```") and (not inside or line == "```"):
            inside = not inside
    return inside


def _open_formula(text: str) -> int | None:
    """The first line in which a formula may have begun that is still open."""
    begins = [text.find("$$")] if text.count("$$") % 2 else []
    for opening, closing in _FORMULAS:
        opened = [match.start() for match in opening.finditer(text)]
        closed = [match.start() for match in closing.finditer(text)]
        if opened and (len(opened) > len(closed) or opened[-1] > closed[-1]):
            begins.append(opened[0])
    return text.count("\n", 0, min(begins)) if begins else None


def with_ends(text: str) -> str:
    """Close bold and code that the last line has opened, so that they show at once."""
    line = text.rpartition("\n")[2]
    if "```" in line or _ends_in_code(text):
        return text
    for mark in ("`", "**"):
        if line.count(mark) % 2:
            text = text.removesuffix(mark) if line.endswith(mark) else text + mark
    return text
