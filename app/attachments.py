"""A file that was dropped on the page, as text that goes into a message."""

from collections.abc import Sequence
from pathlib import Path

from magistral_mlx.app.records import Attachment
from magistral_mlx.tokenizer import Tokenizer

MAX_FILE_BYTES = 20 << 20
MAX_CHARACTERS = 1_000_000
MAX_PDF_PAGES = 500


def read_attachment(path: Path, tokenizer: Tokenizer, *, name: str | None = None) -> Attachment:
    """The text of a file (text, code, Markdown, PDF), with its token count.

    name: what the user calls it; by default the file's name. It is made safe to show.

    Raises UserError, in one sentence, for a file that is too large, binary, encrypted or empty.
    """
    raise NotImplementedError


def with_attachments(content: str, attachments: Sequence[Attachment]) -> str:
    """The message as the model gets it: each file between delimiters, then what was typed."""
    raise NotImplementedError


def safe_name(name: str) -> str:
    """A file's last name without control characters, direction marks or delimiters; never empty."""
    raise NotImplementedError
