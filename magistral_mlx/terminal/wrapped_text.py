"""Text that arrives in pieces, broken between words at the terminal's width."""

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

CONTROL_CODES = dict.fromkeys(
    code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
)
"""For str.translate: a model must not steer the terminal with escape sequences."""


class WrappedText:
    """Prints text in one style. A word is printed when it is complete, so that it never moves."""

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
