"""The text of a PDF, within bounds of pages, characters, time and memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from magistral_mlx.errors import UserError

MAX_PAGES = 500
MAX_CHARACTERS = 1_000_000
MAX_SECONDS = 30.0


def pdf_text(data: bytes, name: str, *, max_seconds: float = MAX_SECONDS) -> str:
    """The text of all pages, a blank line between them.

    Raises UserError, in one sentence, for a file that is damaged, encrypted or too long, or
    that has no text (a scan).
    """
    read = _read(data, name, max_seconds)
    if read.get("encrypted"):
        raise UserError(f"{name} is encrypted: attach a copy without a password.")
    if read["pages"] > MAX_PAGES:
        raise UserError(
            f"{name} has {read['pages']:,} pages, and {MAX_PAGES} can be read: attach a part of it."
        )
    if read["characters"] > MAX_CHARACTERS:
        raise UserError(f"{name} has more than {MAX_CHARACTERS:,} characters: attach a part of it.")
    text = "\n\n".join(page for page in read["texts"] if page)
    if not text:
        raise UserError(
            f"{name} holds no text, as a scan does: run a text recognition (OCR) over it first."
        )
    return text


def _read(data: bytes, name: str, max_seconds: float) -> dict[str, Any]:
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
