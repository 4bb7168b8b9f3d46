"""The tokenizer of a GGUF file: tekken.json, or tokenizer.json of a byte-level BPE vocabulary."""

import base64
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from gguf import TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

from magistral_mlx.convert.vocabulary.tekken_json import (
    CHAT_TEMPLATE,
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
    bos_first,
    word_pattern,
)
from magistral_mlx.errors import CheckpointError
from magistral_mlx.text.tokenizer import TEKKEN_FILE, byte_alphabet

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 splits text into words."""

LLAMA_3_NAME = "llama-bpe"
"""llama.cpp's name for it. Such text begins with bos unless the file says otherwise."""

END_FIELDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""End of text, of a turn, and of a message before a tool's: llama.cpp stops at each."""

ROLE_FIELDS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}


def write_tokenizer(vocabulary: Mapping[str, object], folder: Path, source: Path) -> Path:
    """Write the tokenizer's files from the fields "tokenizer.ggml.*" and the chat template.

    Returns tekken.json or tokenizer.json. Raises CheckpointError for other kinds of vocabulary.
    """
    if vocabulary.get("pre") == "tekken":
        return _write_tekken(vocabulary, folder / TEKKEN_FILE, source)
    tokens, merges, kinds = (_list(vocabulary, name) for name in ("tokens", "merges", "token_type"))
    splitter = _pre_tokenizer(vocabulary.get("pre"))
    if vocabulary.get("model") != "gpt2" or splitter is None or not (tokens and merges):
        raise CheckpointError(
            f"{source} has a vocabulary of kind {vocabulary.get('model')!r}, "
            f"{vocabulary.get('pre')!r}, which the converter cannot rebuild: give the model's "
            "tekken.json or tokenizer.json with --tokenizer."
        )
    tokenizer = Tokenizer(
        BPE(
            {token: number for number, token in enumerate(tokens)},
            [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)],
            ignore_merges=vocabulary.get("pre") == LLAMA_3_NAME,
        )
    )
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    _add_special_tokens(tokenizer, tokens, kinds)
    begin = vocabulary.get("bos_token_id")
    adds_bos = vocabulary.get("add_bos_token", vocabulary.get("pre") == LLAMA_3_NAME)
    if isinstance(begin, int) and begin < len(tokens) and adds_bos:
        tokenizer.post_processor = bos_first(tokens[begin], begin)
    path = folder / TOKENIZER_JSON
    tokenizer.save(str(path), pretty=False)
    _write_companions(vocabulary, tokens, folder)
    return path


def _write_tekken(vocabulary: Mapping[str, object], path: Path, source: Path) -> Path:
    tokens, kinds = _list(vocabulary, "tokens"), _list(vocabulary, "token_type")
    if not tokens or len(kinds) != len(tokens):
        raise CheckpointError(
            f"{source} does not say what its tokens are: give the model's tekken.json with "
            "--tokenizer."
        )
    # The control tokens come first.
    count = next((n for n, kind in enumerate(kinds) if kind == TokenType.NORMAL), len(kinds))
    special = tokens[:count]
    alphabet = {character: byte for byte, character in byte_alphabet().items()}
    known = resources.files("mistral_common") / "data" / "tekken_240911.json"
    data = {
        "config": {
            "pattern": word_pattern(known.read_text(encoding="utf-8")),
            "num_vocab_tokens": len(tokens) - count,
            "default_vocab_size": len(tokens),
            "default_num_special_tokens": count,
            "version": _tekken_version(special),
        },
        "vocab": [_tekken_token(rank, text, alphabet) for rank, text in enumerate(tokens[count:])],
        "special_tokens": [
            {"rank": rank, "token_str": text, "is_control": True}
            for rank, text in enumerate(special)
        ],
    }
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


def _tekken_version(special: list[str]) -> str:
    """The version of the tokens: [THINK] since v13, [ARGS] since v11, [SYSTEM_PROMPT] since v7."""
    for version, token in (("v13", "[THINK]"), ("v11", "[ARGS]"), ("v7", "[SYSTEM_PROMPT]")):
        if token in special:
            return version
    return "v3"


def _tekken_token(rank: int, text: str, alphabet: Mapping[str, int]) -> dict[str, object]:
    data = bytes(alphabet[character] for character in text)
    try:
        readable: str | None = data.decode()
    except UnicodeDecodeError:
        readable = None
    return {"rank": rank, "token_bytes": base64.b64encode(data).decode(), "token_str": readable}


def _list(vocabulary: Mapping[str, object], name: str) -> list[Any]:
    found = vocabulary.get(name)
    return found if isinstance(found, list) else []


def _pre_tokenizer(name: object) -> PreTokenizer | None:
    """What splits text into words, by llama.cpp's name."""
    if name == "gpt-2":
        return ByteLevel(add_prefix_space=False)
    if name == "smollm":
        return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    if name == LLAMA_3_NAME:
        words = Split(Regex(LLAMA_3), behavior="isolated")
        return Sequence([words, ByteLevel(add_prefix_space=False, use_regex=False)])
    return None


def _add_special_tokens(tokenizer: Tokenizer, tokens: list[str], kinds: list[int]) -> None:
    def of_kind(kind: TokenType, *, special: bool) -> list[AddedToken]:
        pairs = zip(tokens, kinds, strict=False)
        return [AddedToken(token, special=special) for token, k in pairs if k == kind]

    tokenizer.add_tokens(of_kind(TokenType.USER_DEFINED, special=False))
    tokenizer.add_special_tokens(of_kind(TokenType.CONTROL, special=True))


def _write_companions(vocabulary: Mapping[str, object], tokens: list[str], folder: Path) -> None:
    config: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for role, field in ROLE_FIELDS.items():
        number = vocabulary.get(field)
        if isinstance(number, int) and number < len(tokens):
            config[role] = tokens[number]
    (folder / TOKENIZER_CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    ends = [number for field in END_FIELDS if isinstance(number := vocabulary.get(field), int)]
    generation = json.dumps({"eos_token_id": ends}, indent=2)
    (folder / "generation_config.json").write_text(generation, encoding="utf-8")
    template = vocabulary.get("chat_template")
    if isinstance(template, str):
        (folder / CHAT_TEMPLATE).write_text(template, encoding="utf-8")
