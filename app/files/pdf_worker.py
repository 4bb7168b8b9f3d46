"""Read a PDF in a separate process, because a hostile file may make pypdf hang or fill the memory.

Run as a script: the PDF on standard input, the result as JSON on standard output.
"""

import io
import json
import resource
import sys
from contextlib import suppress

from pypdf import PdfReader

MEMORY = 2 << 30


def main() -> None:
    """Arguments: the maximum number of pages, and of characters."""
    most_pages, most_characters = map(int, sys.argv[1:3])
    with suppress(ValueError, OSError):  # macOS does not enforce the limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    json.dump(_read(most_pages, most_characters), sys.stdout)


def _read(most_pages: int, most_characters: int) -> dict[str, object]:
    reader = PdfReader(io.BytesIO(sys.stdin.buffer.read()), strict=False)
    # Many PDFs are encrypted with an empty password, to forbid printing.
    if reader.is_encrypted and not reader.decrypt(""):
        return {"encrypted": True}
    count = len(reader.pages)
    texts: list[str] = []
    size = 0
    for page in reader.pages[:most_pages] if count <= most_pages else ():
        texts.append(page.extract_text().strip())
        size += len(texts[-1])
        if size > most_characters:
            break
    return {"pages": count, "texts": texts, "characters": size}


if __name__ == "__main__":
    main()
