"""A Markdown text that grows: what of its HTML changed since a tab last asked."""

from dataclasses import dataclass

from magistral_mlx.app.rendering import Block, MarkdownRenderer


@dataclass(frozen=True, slots=True)
class Patch:
    """`blocks` replace all blocks from index `start` on."""

    start: int
    blocks: tuple[str, ...]


class GrowingText:
    """Renders the end of the text only: a block that another one follows is done.

    Not safe for several threads at once.
    """

    def __init__(self, renderer: MarkdownRenderer) -> None:
        """An empty text."""
        self._renderer = renderer
        self._text = ""
        self._finished = False
        self._offset = 0  # characters of the text whose blocks are settled
        self._settled = 0  # blocks that will not change while the text grows
        self._blocks: list[str] = []
        self._changed: list[int] = []  # the version in which each block came or changed last

    def update(self, text: str, version: int) -> None:
        """The text as it is in this version: longer than before, or the same."""
        if text == self._text:
            return
        self._text = text
        tail = text[self._offset :]
        blocks = self._renderer.blocks(with_ends(tail))
        self._replace(self._settled, [block.html for block in blocks], version)
        self._settle(tail, blocks)

    def finish(self, text: str, version: int) -> None:
        """The whole text, with what only all of it can tell, as links defined at its end."""
        if self._finished and text == self._text:
            return
        self._text, self._finished = text, True
        self._replace(0, [block.html for block in self._renderer.blocks(text)], version)

    def since(self, version: int) -> Patch:
        """What a tab lacks that has seen this version."""
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
            self._changed[same - 1] = version  # tabs learn by it that blocks have gone
        self._blocks[same:] = new
        self._changed[same:] = [version] * len(new)

    def _settle(self, tail: str, blocks: list[Block]) -> None:
        """All but the last two: the last line may still change what it belongs to."""
        done = len(blocks) - 2
        if done < 1 or (start := blocks[done].start) is None or "\r" in tail:
            return
        self._offset += sum(len(line) + 1 for line in tail.split("\n")[:start])
        self._settled += done


def with_ends(text: str) -> str:
    """The text with what its last line has opened closed: bold and code show as such at once."""
    line = text.rpartition("\n")[2]
    if text.count("```") % 2 or "```" in line:
        return text
    for mark in ("`", "**"):
        if line.count(mark) % 2:
            text = text.removesuffix(mark) if line.endswith(mark) else text + mark
    return text
