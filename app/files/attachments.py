"""A file that was dropped on the page (text, code, PDF), as text that goes into a message."""

import codecs
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magistral_mlx.errors import UserError
from magistral_mlx.text.tokenizer import Tokenizer

MAX_FILE_BYTES = 20 << 20
MAX_CHARACTERS = 1_000_000
"""More than any window holds; encoding them takes about a second."""
MAX_PAGES = 500
MAX_SECONDS = 30.0
"""The longest that reading a PDF may take."""

_MAX_NAME = 120
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file's text. `name` is safe to show; `tokens` is the size of the text in a message."""

    name: str
    text: str
    tokens: int


def read_attachment(data: bytes, name: str, tokenizer: Tokenizer) -> Attachment:
    """The text of a file (text, code, Markdown, PDF), with its token count.

    name: the user's name for it, which is made safe to show.

    Raises UserError, in one sentence, if the file is too large, binary, encrypted or empty.
    """
    shown = safe_name(name)
    if len(data) > MAX_FILE_BYTES:
        raise UserError(
            f"{shown} is larger than {MAX_FILE_BYTES >> 20} MB: attach a smaller file or a part "
            "of it."
        )
    text = pdf_text(data, shown) if data.startswith(b"%PDF-") else _decoded(data, shown)
    text = text.replace("\r\n", "\n").strip("\n")
    if not text.strip():
        raise UserError(f"{shown} is empty: choose another file.")
    if len(text) > MAX_CHARACTERS:
        raise UserError(
            f"{shown} has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}: attach a part "
            "of it."
        )
    return Attachment(shown, text, len(tokenizer.encode(_delimited(shown, text))))


def with_attachments(content: str, attachments: Sequence[Attachment]) -> str:
    """The message as the model gets it: each file between fences, then the typed text."""
    parts = [_delimited(attachment.name, attachment.text) for attachment in attachments]
    return "\n\n".join([*parts, content] if content.strip() else parts)


def safe_name(name: str) -> str:
    """The last part of a path, without control characters, direction marks or delimiters."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    kept = "".join(c for c in last if unicodedata.category(c)[0] != "C" and c not in '<>"`|')
    kept = " ".join(kept.split()).strip(". ")
    if len(kept) > _MAX_NAME:
        kept = kept[: _MAX_NAME // 2] + "…" + kept[1 - _MAX_NAME // 2 :]
    return kept or "file"


def pdf_text(data: bytes, name: str, *, max_seconds: float = MAX_SECONDS) -> str:
    """The text of all pages, a blank line between them.

    Raises UserError, in one sentence, if the file is damaged, encrypted or too long, or has no
    text (a scan).
    """
    read = _read_pdf(data, name, max_seconds)
    if read.get("encrypted"):
        raise UserError(f"{name} is encrypted: attach a copy without a password.")
    if read["pages"] > MAX_PAGES:
        raise UserError(
            f"{name} has {read['pages']:,} pages; the limit is {MAX_PAGES}: attach a part of it."
        )
    if read["characters"] > MAX_CHARACTERS:
        raise UserError(f"{name} has more than {MAX_CHARACTERS:,} characters: attach a part of it.")
    text = "\n\n".join(page for page in read["texts"] if page)
    if not text:
        raise UserError(
            f"{name} has no text, probably because it is a scan: run text recognition (OCR) on it "
            "first."
        )
    return text


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
    # Longer than any fence in the file, so that nothing in it can end the block early.
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"File: {name}\n{fence}\n{text}\n{fence}"


def _read_pdf(data: bytes, name: str, max_seconds: float) -> dict[str, Any]:
    worker = Path(__file__).with_name("pdf_worker.py")
    command = [sys.executable, "-I", str(worker), str(MAX_PAGES), str(MAX_CHARACTERS)]
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=max_seconds, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{name} could not be read within {max_seconds:g} seconds: save it as text and attach "
            "that."
        ) from error
    except subprocess.CalledProcessError as error:
        if b"No module named 'pypdf'" in error.stderr:
            raise UserError(
                f"{name} is a PDF, and pypdf is not installed: install magistral-mlx[app]."
            ) from error
        raise UserError(f"{name} is not a PDF that can be read: save it again as PDF.") from error
    read: dict[str, Any] = json.loads(done.stdout)
    return read
