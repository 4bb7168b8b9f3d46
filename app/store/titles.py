"""A conversation's title, from its first question."""

import re
import unicodedata

MAX_TITLE = 60
"""Columns: a Chinese or Japanese character takes two."""
LONGEST_SEARCH = 1_000
"""Characters of a question that are searched: the patterns below take quadratic time."""

# Each keeps the words and drops the marks around them.
_MARKDOWN = (
    (re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)"), r"\1"),  # links and images
    (re.compile(r"^\s*(?:#{1,6}|>|[-*+] \[[ x]\]|[-*+]|\d{1,3}[.)])\s+"), ""),
    (re.compile(r"(\*\*|__|~~|`+)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])"), r"\1"),
)


def title_of(question: str, *, fallback: str = "") -> str:
    """The first line that has words, without Markdown, cut between words; else `fallback`."""
    for line in question.lstrip()[:LONGEST_SEARCH].splitlines():
        if title := _plain(line):
            return _cut(title)
    return fallback


def _plain(line: str) -> str:
    """The line's words; empty for a line of marks alone, such as a code fence."""
    if re.match(r"\s*(```|~~~)", line):
        return ""
    for pattern, words in _MARKDOWN:
        line = pattern.sub(words, line)
    line = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in line)
    words = " ".join(line.split())
    return words if any(character.isalnum() for character in words) else ""


def _cut(title: str) -> str:
    """At most MAX_TITLE columns including the ellipsis; cut at a space if one is near."""
    if sum(map(_columns, title)) <= MAX_TITLE:
        return title
    end = used = 0
    while used + _columns(title[end]) < MAX_TITLE:
        used += _columns(title[end])
        end += 1
    kept = title[:end]
    if title[end] != " " and (space := kept.rfind(" ")) > end // 2:
        kept = kept[:space]
    return kept.rstrip(" ,;:-–—、，。؛،") + "…"


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
