"""The tokenizer of a checkpoint, of whichever kind it has."""

from pathlib import Path

from magistral_mlx.text.template_tokenizer import TOKENIZER_FILE, TemplateTokenizer
from magistral_mlx.text.tokenizer import TEKKEN_FILE, Tokenizer


def open_tokenizer(folder_or_file: Path) -> Tokenizer:
    """Open tekken.json, or where there is none tokenizer.json, of a folder or by itself.

    Raises CheckpointError when it cannot be used.
    """
    path = folder_or_file
    if path.is_dir():
        has_tekken = (path / TEKKEN_FILE).is_file() or not (path / TOKENIZER_FILE).is_file()
        path = path / (TEKKEN_FILE if has_tekken else TOKENIZER_FILE)
    if path.name == TOKENIZER_FILE:
        return TemplateTokenizer.open(path)
    return Tokenizer.open(path)
