"""tekken.json rebuilt from a GGUF file's vocabulary."""

import base64
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from magistral_mlx.errors import CheckpointError
from magistral_mlx.text.byte_alphabet import byte_alphabet

NORMAL = 1
"""gguf.TokenType.NORMAL: every other kind is a control token here."""


def write_tekken_of(vocabulary: Mapping[str, object], path: Path, source: Path) -> None:
    """Write tekken.json from the fields "tokenizer.ggml.*" of a file.

    Raises CheckpointError when the vocabulary is not Tekken's.
    """
    tokens, kinds = vocabulary.get("tokens"), vocabulary.get("token_type")
    if vocabulary.get("pre") != "tekken" or not isinstance(tokens, list):
        raise CheckpointError(
            f"{source} has the vocabulary of {vocabulary.get('pre')!r}, not Tekken's: give the "
            "model's tekken.json with --tokenizer."
        )
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise CheckpointError(
            f"{source} does not say what its tokens are: give the model's tekken.json with "
            "--tokenizer."
        )
    count = next((n for n, kind in enumerate(kinds) if kind == NORMAL), len(kinds))
    special = [str(token) for token in tokens[:count]]
    alphabet = {character: byte for byte, character in byte_alphabet().items()}
    data = {
        "config": {
            "pattern": _tekken_pattern(),
            "num_vocab_tokens": len(tokens) - count,
            "default_vocab_size": len(tokens),
            "default_num_special_tokens": count,
            "version": _version(special),
        },
        "vocab": [_token(rank, str(text), alphabet) for rank, text in enumerate(tokens[count:])],
        "special_tokens": [
            {"rank": rank, "token_str": text, "is_control": True}
            for rank, text in enumerate(special)
        ],
    }
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def _version(special: list[str]) -> str:
    """[THINK] came with v13, [ARGS] with v11, [SYSTEM_PROMPT] with v7."""
    for version, token in (("v13", "[THINK]"), ("v11", "[ARGS]"), ("v7", "[SYSTEM_PROMPT]")):
        if token in special:
            return version
    return "v3"


def _token(rank: int, text: str, alphabet: Mapping[str, int]) -> dict[str, object]:
    data = bytes(alphabet[character] for character in text)
    try:
        readable: str | None = data.decode()
    except UnicodeDecodeError:
        readable = None
    return {
        "rank": rank,
        "token_bytes": base64.b64encode(data).decode(),
        "token_str": readable,
    }


def _tekken_pattern() -> str:
    """How text is cut into words, from the file that comes with mistral-common."""
    file = resources.files("mistral_common") / "data" / "tekken_240911.json"
    pattern = json.loads(file.read_text(encoding="utf-8"))["config"]["pattern"]
    assert isinstance(pattern, str), "mistral-common's own file"
    return pattern
