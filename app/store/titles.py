"""A conversation's title, from its first question."""

import re
import unicodedata

MAX_TITLE = 60
"""Columns: a Chinese or Japanese character takes two."""

# Each leaves the words and drops the marks around them.
_MARKDOWN = (
    (re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)"), r"\1"),  # links and images
    (re.compile(r"^\s*(?:#{1,6}|>|[-*+] \[[ x]\]|[-*+]|\d{1,3}[.)])\s+"), ""),
    (re.compile(r"(\*\*|__|~~|`+)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])"), r"\1"),
)


def title_of(question: str, *, fallback: str = "") -> str:
    """The first line without its Markdown, cut at a word's end; `fallback` where none is left."""
    for line in question.splitlines():
        if title := _plain(line):
            return _cut(title)
    return fallback


def _plain(line: str) -> str:
    """The line's words; nothing for a line of marks alone, such as a fence of code."""
    if re.match(r"\s*(```|~~~)", line):
        return ""
    for pattern, words in _MARKDOWN:
        line = pattern.sub(words, line)
    line = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in line)
    words = " ".join(line.split())
    return words if any(character.isalnum() for character in words) else ""


def _cut(title: str) -> str:
    """At most MAX_TITLE columns with the ellipsis, not inside a word where words have spaces."""
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
