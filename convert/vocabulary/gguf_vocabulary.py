"""tokenizer.json and its companions rebuilt from a GGUF file's byte-level BPE vocabulary."""

import json
from collections.abc import Mapping
from pathlib import Path

from gguf import TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split
from tokenizers.processors import TemplateProcessing

from magistral_mlx.convert.vocabulary.tekken_json import (
    CHAT_TEMPLATE,
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
)
from magistral_mlx.errors import CheckpointError

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 cuts text into words."""

LLAMA_3_NAME = "llama-bpe"
"""llama.cpp's name for that. There, texts begin with bos unless the file says otherwise."""

ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""The ends of a text, of a turn, and of a message before a tool's: llama.cpp stops at each."""

ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}


def write_json_of(vocabulary: Mapping[str, object], folder: Path, source: Path) -> Path:
    """Write the files from the fields "tokenizer.ggml.*" and the chat template of a GGUF file.

    Returns tokenizer.json. Raises CheckpointError for vocabularies of other kinds.
    """
    tokens, merges, kinds = (_list(vocabulary, name) for name in ("tokens", "merges", "token_type"))
    cut = _pre_tokenizer(vocabulary.get("pre"))
    if vocabulary.get("model") != "gpt2" or cut is None or not (tokens and merges):
        raise CheckpointError(
            f"{source} has a vocabulary of kind {vocabulary.get('model')!r}, "
            f"{vocabulary.get('pre')!r}, which is not rebuilt here: give the model's tekken.json "
            "or tokenizer.json with --tokenizer."
        )
    tokenizer = Tokenizer(
        BPE(
            {token: number for number, token in enumerate(tokens)},
            [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)],
            ignore_merges=vocabulary.get("pre") == LLAMA_3_NAME,
        )
    )
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.ByteLevel()
    pairs = zip(tokens, kinds, strict=False)
    added = [(token, kind) for token, kind in pairs if kind in _ADDED]
    tokenizer.add_tokens([AddedToken(t, special=False) for t, kind in added if not _control(kind)])
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True) for t, kind in added if _control(kind)]
    )
    begin = vocabulary.get("bos_token_id")
    if isinstance(begin, int) and begin < len(tokens) and _begins(vocabulary):
        bos = tokens[begin]
        tokenizer.post_processor = TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", "$B:1"], special_tokens=[(bos, begin)]
        )
    path = folder / TOKENIZER_JSON
    tokenizer.save(str(path), pretty=False)
    _write_companions(vocabulary, tokens, folder)
    return path


def _begins(vocabulary: Mapping[str, object]) -> bool:
    """Whether plain text begins with bos."""
    return bool(vocabulary.get("add_bos_token", vocabulary.get("pre") == LLAMA_3_NAME))


_ADDED = (str(int(TokenType.CONTROL)), str(int(TokenType.USER_DEFINED)))


def _control(kind: str) -> bool:
    return kind == str(int(TokenType.CONTROL))


def _list(vocabulary: Mapping[str, object], name: str) -> list[str]:
    found = vocabulary.get(name)
    return [str(part) for part in found] if isinstance(found, list) else []


def _pre_tokenizer(name: object) -> PreTokenizer | None:
    """llama.cpp's name for how text is cut into words."""
    if name == "gpt-2":
        return ByteLevel(add_prefix_space=False)
    if name == "smollm":
        return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    if name == LLAMA_3_NAME:
        words = Split(Regex(LLAMA_3), behavior="isolated")
        return Sequence([words, ByteLevel(add_prefix_space=False, use_regex=False)])
    return None


def _write_companions(vocabulary: Mapping[str, object], tokens: list[str], folder: Path) -> None:
    config: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for role, field in ROLES.items():
        number = vocabulary.get(field)
        if isinstance(number, int) and number < len(tokens):
            config[role] = tokens[number]
    (folder / TOKENIZER_CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    ends = [number for field in ENDS if isinstance(number := vocabulary.get(field), int)]
    generation = json.dumps({"eos_token_id": ends}, indent=2)
    (folder / "generation_config.json").write_text(generation, encoding="utf-8")
    template = vocabulary.get("chat_template")
    if isinstance(template, str):
        (folder / CHAT_TEMPLATE).write_text(template, encoding="utf-8")
