"""The Tekken vocabulary file of the demo model, in Magistral's form."""

import json
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import Literal, TypedDict, cast

VOCAB_SIZE = 131_072
SPECIAL_TOKENS = 1_000

TekkenVersion = Literal["v11", "v13"]

# Ranks 0 to 19 as in mistral-common; the rest as in the files published with the v11 and v13
# models. Ranks in between are unnamed fillers, <SPECIAL_n>.
_SHARED = (
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
)
_LATER: dict[TekkenVersion, dict[int, str]] = {
    "v11": {32: "[ARGS]", 33: "[CALL_ID]"},
    "v13": {32: "[ARGS]", 33: "[CALL_ID]", 34: "[THINK]", 35: "[/THINK]"},
}


class _Token(TypedDict):
    rank: int
    token_bytes: str
    token_str: str | None


class _SpecialToken(TypedDict):
    rank: int
    token_str: str
    is_control: bool


class _Tekken(TypedDict):
    config: dict[str, str | int]
    vocab: list[_Token]


def write_tekken(
    path: Path, *, version: TekkenVersion = "v11", vocab_size: int = VOCAB_SIZE
) -> None:
    """Write a tekken.json of `version` to `path`, atomically.

    The vocabulary comes from mistral-common's tekken_240911.json, cut to the entries that a
    vocabulary of `vocab_size` uses (130,072 of 131,072). Special tokens have the
    names and ids of the published v11 and v13 files. Text forms of tokens, which no reader needs,
    are left out: the file is 8 MB instead of 19.
    """
    source = _wheel_tekken()
    content = {
        "config": {
            **source["config"],
            "num_vocab_tokens": vocab_size - SPECIAL_TOKENS,
            "default_vocab_size": vocab_size,
            "default_num_special_tokens": SPECIAL_TOKENS,
            "version": version,
        },
        "vocab": [
            _Token(rank=token["rank"], token_bytes=token["token_bytes"], token_str=None)
            for token in source["vocab"][: vocab_size - SPECIAL_TOKENS]
        ],
        "special_tokens": _special_tokens(version),
    }
    _write_atomically(path, json.dumps(content, ensure_ascii=True, separators=(",", ":")))


def _wheel_tekken() -> _Tekken:
    file = resources.files("mistral_common").joinpath("data", "tekken_240911.json")
    return cast(_Tekken, json.loads(file.read_text(encoding="utf-8")))


def _special_tokens(version: TekkenVersion) -> list[_SpecialToken]:
    names = {**dict(enumerate(_SHARED)), **_LATER[version]}
    return [
        _SpecialToken(rank=rank, token_str=names.get(rank, f"<SPECIAL_{rank}>"), is_control=True)
        for rank in range(SPECIAL_TOKENS)
    ]


def _write_atomically(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for the owner alone; a checkpoint is as readable as its folder.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
