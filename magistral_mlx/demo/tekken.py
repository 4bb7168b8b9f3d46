"""The Tekken vocabulary file of the demo model, in Magistral's form."""

import json
from importlib import resources
from pathlib import Path
from typing import Literal

from mistral_common.tokens.tokenizers.tekken import Tekkenizer

VOCAB_SIZE = 131_072
SPECIAL_TOKENS = 1_000

TekkenVersion = Literal["v11", "v13"]

# Beside mistral-common's ranks 0 to 19, as in the files published with the v11 and v13 models.
# Ranks in between are unnamed fillers, <SPECIAL_n>.
_LATER: dict[TekkenVersion, dict[int, str]] = {
    "v11": {32: "[ARGS]", 33: "[CALL_ID]"},
    "v13": {32: "[ARGS]", 33: "[CALL_ID]", 34: "[THINK]", 35: "[/THINK]"},
}


def write_tekken(
    path: Path, *, version: TekkenVersion = "v11", vocab_size: int = VOCAB_SIZE
) -> None:
    """Write a tekken.json of `version` to `path`.

    The vocabulary comes from mistral-common's tekken_240911.json, cut to the entries that a
    vocabulary of `vocab_size` uses (130,072 of 131,072). Special tokens have the
    names and ids of the published v11 and v13 files. Text forms of tokens, which no reader needs,
    are left out: the file is 8 MB instead of 19.
    """
    file = resources.files("mistral_common").joinpath("data", "tekken_240911.json")
    source = json.loads(file.read_text(encoding="utf-8"))
    content = {
        "config": {
            **source["config"],
            "num_vocab_tokens": vocab_size - SPECIAL_TOKENS,
            "default_vocab_size": vocab_size,
            "default_num_special_tokens": SPECIAL_TOKENS,
            "version": version,
        },
        "vocab": [
            {"rank": token["rank"], "token_bytes": token["token_bytes"], "token_str": None}
            for token in source["vocab"][: vocab_size - SPECIAL_TOKENS]
        ],
        "special_tokens": _special_tokens(version),
    }
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def _special_tokens(version: TekkenVersion) -> list[dict[str, object]]:
    shared = Tekkenizer.DEPRECATED_SPECIAL_TOKENS
    names = {token["rank"]: token["token_str"] for token in shared} | _LATER[version]
    return [
        {"rank": rank, "token_str": names.get(rank, f"<SPECIAL_{rank}>"), "is_control": True}
        for rank in range(SPECIAL_TOKENS)
    ]
