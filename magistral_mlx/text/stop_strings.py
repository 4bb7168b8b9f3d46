"""Stop strings: find them in text that streams in, and hold back what may still become one."""

from collections.abc import Sequence


class StopStrings:
    """Cuts one text at the first stop string.

    Of several, the one that is complete first counts, and of those that end together the longest;
    so it does not matter in which pieces the text comes.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        """Look for these strings, none of them empty."""
        self._strings = strings
        self._held = ""
        self.found: str | None = None
        """The stop string that ended the text."""

    def push(self, text: str) -> str:
        """What may be shown now; after a stop string, nothing more."""
        if self.found is not None:
            return ""
        text = self._held + text
        ends = [(text.find(s) + len(s), -len(s), s) for s in self._strings if s in text]
        if ends:
            end, _, self.found = min(ends)
            shown, self._held = end - len(self.found), ""
        else:
            shown = len(text) - self._may_begin(text)
            self._held = text[shown:]
        return text[:shown]

    def finish(self) -> str:
        """What was held back, at the end of a text in which it did not become a stop string."""
        shown, self._held = self._held, ""
        return shown

    def _may_begin(self, text: str) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = max(map(len, self._strings), default=1) - 1
        sizes = range(min(longest, len(text)), 0, -1)
        return next((n for n in sizes if any(s.startswith(text[-n:]) for s in self._strings)), 0)
