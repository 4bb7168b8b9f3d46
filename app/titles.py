"""A conversation's title, from its first question."""

MAX_TITLE = 60


def title_of(question: str, *, fallback: str = "") -> str:
    """The first line without its Markdown, cut at a word's end; `fallback` where none is left."""
    raise NotImplementedError
