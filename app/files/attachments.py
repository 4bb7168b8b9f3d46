"""A file that was dropped on the page, as text that goes into a message."""

import codecs
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.app.files.pdf_text import pdf_text
from magistral_mlx.errors import UserError
from magistral_mlx.text.tokenizer import Tokenizer

MAX_FILE_BYTES = 20 << 20
MAX_CHARACTERS = 1_000_000
"""More than any window holds; encoding so many takes about a second."""

_MAX_NAME = 120
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file's text, as it goes into a message; `name` is safe to show, `tokens` is its size."""

    name: str
    text: str
    tokens: int


def read_attachment(path: Path, tokenizer: Tokenizer, *, name: str | None = None) -> Attachment:
    """The text of a file (text, code, Markdown, PDF), with its token count.

    name: what the user calls it; by default the file's name. It is made safe to show.

    Raises UserError, in one sentence, for a file that is too large, binary, encrypted or empty.
    """
    shown = safe_name(path.name if name is None else name)
    data = _bytes_of(path, shown)
    text = pdf_text(data, shown) if data.startswith(b"%PDF-") else _decoded(data, shown)
    text = text.replace("\r\n", "\n").strip("\n")
    if not text.strip():
        raise UserError(f"{shown} is empty: choose another file.")
    if len(text) > MAX_CHARACTERS:
        raise UserError(
            f"{shown} has {len(text):,} characters, and {MAX_CHARACTERS:,} can be read: attach a "
            "part of it."
        )
    return Attachment(shown, text, _tokens(tokenizer, shown, text))


def with_attachments(content: str, attachments: Sequence[Attachment]) -> str:
    """The message as the model gets it: each file between delimiters, then what was typed."""
    parts = [_delimited(attachment.name, attachment.text) for attachment in attachments]
    return "\n\n".join([*parts, content] if content.strip() else parts)


def safe_name(name: str) -> str:
    """A file's last name without control characters, direction marks or delimiters; never empty."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    kept = "".join(c for c in last if unicodedata.category(c)[0] != "C" and c not in '<>"`|')
    kept = " ".join(kept.split()).strip(". ")
    if len(kept) > _MAX_NAME:
        kept = kept[: _MAX_NAME // 2] + "…" + kept[1 - _MAX_NAME // 2 :]
    return kept or "file"


def _bytes_of(path: Path, shown: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(f"{shown} cannot be read ({error.strerror}): attach it again.") from error
    if len(data) > MAX_FILE_BYTES:
        raise UserError(
            f"{shown} is larger than {MAX_FILE_BYTES >> 20} MB: attach a smaller file or a part "
            "of it."
        )
    return data


def _decoded(data: bytes, shown: str) -> str:
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _not_text(shown) from error
    if "\0" in text:
        raise _not_text(shown)
    return text


def _not_text(shown: str) -> UserError:
    return UserError(
        f"{shown} is not text in UTF-8 or UTF-16: attach text, code, Markdown or a PDF."
    )


def _delimited(name: str, text: str) -> str:
    # A longer fence than any in the file: nothing in it can end the block early.
    fence = "```"
    while fence in text:
        fence += "`"
    return f"File: {name}\n{fence}\n{text}\n{fence}"


def _tokens(tokenizer: Tokenizer, name: str, text: str) -> int:
    return len(tokenizer.encode(_delimited(name, text)))
