"""tokenizer.json and chat template from tekken.json, for LM Studio, mlx-swift and others.

Tekken is byte-level BPE without a list of merges: the pair whose joined bytes have the lowest rank
is merged first. The equivalent list has, for each token by rank, all pairs of tokens that join to
it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from mistral_common.exceptions import MistralCommonException
from mistral_common.integrations.chat_templates.chat_templates import (
    convert_tokenizer_to_chat_template,
)
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from magistral_mlx.text.tokenizer import byte_alphabet

TOKENIZER_JSON = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"

ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def tokenizer_of(tekken: Tekkenizer, path: Path) -> Tokenizer:
    """The tokenizer of the tekken.json at `path`, for the tokenizers library."""
    first = tekken.num_special_tokens
    pieces = [
        tekken.id_to_byte_piece(token, SpecialTokenPolicy.RAISE)
        for token in range(first, tekken.n_words)
    ]
    special = [tekken.id_to_piece(token) for token in range(first)]
    alphabet = byte_alphabet()
    names = ["".join(map(alphabet.__getitem__, piece)) for piece in pieces]
    vocabulary = dict(zip(names, range(first, tekken.n_words), strict=True))
    vocabulary |= {name: token for token, name in enumerate(special)}
    merges = [(names[left], names[right]) for left, right in _merges(pieces)]
    tokenizer = Tokenizer(BPE(vocabulary, merges, fuse_unk=False, ignore_merges=True))
    words = Regex(word_pattern(path.read_text(encoding="utf-8")))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    # In a sequence: from a bare ByteLevel, mlx-lm concludes that tokens are spelled in this
    # alphabet, but gets mistral-common's spelling from transformers if that is installed.
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel()])
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    tokenizer.post_processor = bos_first(tekken.id_to_piece(tekken.bos_id), tekken.bos_id)
    return tokenizer


def bos_first(bos: str, number: int) -> TemplateProcessing:
    """What puts bos before every text."""
    return TemplateProcessing(
        single=[bos, "$A"], pair=[bos, "$A", "$B:1"], special_tokens=[(bos, number)]
    )


def tokenizer_config(tekken: Tekkenizer, *, window: int) -> dict[str, object]:
    """tokenizer_config.json for transformers, mlx-lm and swift-transformers."""
    named = {role: name for role, name in ROLES.items() if tekken.is_special(name)}
    return {
        **named,
        "clean_up_tokenization_spaces": False,
        "model_max_length": window,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def chat_template(path: Path, system_prompt: str | None) -> str | None:
    """The Jinja template for a tekken.json; None if mistral-common has none for its version.

    system_prompt: for conversations without a system message.
    """
    try:
        return convert_tokenizer_to_chat_template(path, system_prompt)
    except (MistralCommonException, ValueError):
        return None


def word_pattern(tekken: str) -> str:
    """The regular expression that splits text into words, from the text of a tekken.json."""
    pattern = json.loads(tekken)["config"]["pattern"]
    assert isinstance(pattern, str), "mistral-common has read the file"
    return pattern


def _merges(pieces: list[bytes]) -> Iterator[tuple[int, int]]:
    """Pairs of ranks that join to a token, for all tokens by rank."""
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    for piece in pieces:
        pairs = ((ranks.get(piece[:cut]), ranks.get(piece[cut:])) for cut in range(1, len(piece)))
        yield from sorted(
            (left, right) for left, right in pairs if left is not None and right is not None
        )
