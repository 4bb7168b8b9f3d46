"""Ways to cut one text into tokens, for tests of everything that reads a stream of them."""

from itertools import pairwise

from mistral_common.protocol.instruct.messages import (
    AssistantMessage,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from mistral_common.tokens.tokenizers.base import Tokenized
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from magistral_mlx.text.tokenizer import Tokenizer

Oracle = MistralTokenizer[UserMessage, AssistantMessage, ToolMessage, SystemMessage, Tokenized]


def byte_ids(data: bytes) -> list[int]:
    """One token a byte; Tekken has them after its 1,000 special tokens."""
    return [1_000 + byte for byte in data]


def cut_ids(tokenizer: Tokenizer, data: bytes, cuts: set[int]) -> list[int]:
    """Each slice between two cuts as its usual tokens, or byte by byte where it is no text."""
    inner = (cut for cut in cuts if 0 < cut < len(data))
    ids: list[int] = []
    for start, end in pairwise(sorted({0, len(data), *inner})):
        try:
            ids += tokenizer.encode(data[start:end].decode())
        except UnicodeDecodeError:
            ids += byte_ids(data[start:end])
    return ids
