"""Text to token ids and back, by mistral-common, which decides every token."""

import codecs
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from llguidance import LLTokenizer
from mistral_common.exceptions import MistralCommonException
from mistral_common.guidance.grammar_factory import GrammarFactory
from mistral_common.protocol.instruct.messages import (
    AssistantMessage,
    ChatMessage,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy, Tokenized
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from pydantic import ValidationError

from magistral_mlx.errors import CheckpointError, RequestError
from magistral_mlx.spec import THINK_CLOSE, THINK_OPEN

TEKKEN_FILE = "tekken.json"

_VERSIONS = ("v11", "v13")

_ChatTokenizer: TypeAlias = MistralTokenizer[
    UserMessage, AssistantMessage, ToolMessage, SystemMessage, Tokenized
]


class Tokenizer:
    """The Tekken tokenizer of a checkpoint. Immutable, so threads may share it."""

    is_magistral = True
    """Whether the model card's system prompt and sampling are this model's."""

    has_reasoning = True
    """Whether answers may open with reasoning between tags."""

    def __init__(self, mistral: _ChatTokenizer, tekken: Tekkenizer) -> None:
        """Use `open`, which reads and checks the file."""
        self._mistral = mistral
        self._tekken = tekken
        self.version: str = tekken.version.value
        self.vocab_size: int = tekken.n_words
        self.bos_id: int = tekken.bos_id
        self.eos_id: int = tekken.eos_id
        self.end_ids: tuple[int, ...] = (tekken.eos_id,)
        self.think_open_id, self.think_close_id = self._think_control_ids()

    @classmethod
    def open(cls, folder_or_file: Path) -> "Tokenizer":
        """Open the tekken.json in a checkpoint folder, or the file itself.

        Raises CheckpointError if it is missing, broken, or not of version v11 (Magistral Small
        2506) or v13 (2507 and later).
        """
        path = folder_or_file / TEKKEN_FILE if folder_or_file.is_dir() else folder_or_file
        if not path.is_file():
            message = f"{path} is missing: copy {TEKKEN_FILE} from the model's repository."
            raise CheckpointError(message)
        mistral, tekken = _load(path)
        if tekken.version.value not in _VERSIONS:
            message = (
                f"{path} is a tokenizer of version {tekken.version.value}; "
                f"Magistral has {' or '.join(_VERSIONS)}."
            )
            raise CheckpointError(message)
        return cls(mistral, tekken)

    def control_id(self, name: str) -> int | None:
        """The id of a control token such as "[INST]", or None if the vocabulary has none."""
        return self._tekken.get_special_token(name) if self._tekken.is_special(name) else None

    def encode(self, text: str) -> list[int]:
        """Plain text to ids: control tokens written out in the text stay text; no bos, no eos."""
        return self._tekken.encode(text, bos=False, eos=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text. Control tokens have none; bytes that are not UTF-8 become U+FFFD."""
        return self._tekken.decode(list(ids), special_token_policy=SpecialTokenPolicy.IGNORE)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token, perhaps a part of a character; empty for a control token."""
        return self._tekken.id_to_byte_piece(token_id, SpecialTokenPolicy.IGNORE)

    def encode_chat(self, request: ChatCompletionRequest[ChatMessage]) -> list[int]:
        """The prompt of a chat request: exactly mistral-common's encode_chat_completion.

        Requests are checked as by Mistral's own servers (ValidationMode.serving, which needs
        `model`): user messages may follow each other, a last assistant message with
        `prefix=True` is continued, and every tool call needs its result. Raises RequestError.
        """
        try:
            encoded = self._mistral.encode_chat_completion(request)
        except (MistralCommonException, ValueError, AssertionError, RecursionError) as error:
            raise refused(error) from error
        return list(encoded.tokens)

    @property
    def begin_ids(self) -> list[int]:
        """The ids before plain text that is not a chat: the token <s>."""
        return [self.bos_id]

    @property
    def has_think_control(self) -> bool:
        """Whether [THINK] and [/THINK] are control tokens (v13), not plain text (v11)."""
        return self.think_open_id is not None

    @property
    def think_open_ids(self) -> list[int]:
        """The ids that open the reasoning: "<think>" and a newline as plain text, or [THINK]."""
        if self.think_open_id is not None:
            return [self.think_open_id]
        return self.encode(f"{THINK_OPEN}\n")

    @property
    def think_close_ids(self) -> list[int]:
        """The ids that close it: "</think>" between newlines as plain text, or [/THINK]."""
        if self.think_close_id is not None:
            return [self.think_close_id]
        return self.encode(f"\n{THINK_CLOSE}\n")

    @property
    def think_empty_ids(self) -> list[int]:
        """The ids of empty reasoning.

        Encoded as one text, because the newlines of the two tags make one token.
        """
        if self.has_think_control:
            return self.think_open_ids + self.think_close_ids
        return self.encode(f"{THINK_OPEN}\n\n{THINK_CLOSE}\n")

    @cached_property
    def grammar_factory(self) -> GrammarFactory:
        """mistral-common's grammars over this vocabulary; the first use takes about a second."""
        return GrammarFactory(self._mistral)

    @cached_property
    def grammar_vocabulary(self) -> LLTokenizer:
        """The vocabulary as grammars see it."""
        return self.grammar_factory.llg_tokenizer

    def detokenizer(self) -> "Detokenizer":
        """A fresh stream from ids to text."""
        return Detokenizer(self)

    def _think_control_ids(self) -> tuple[int | None, int | None]:
        ids = self.control_id("[THINK]"), self.control_id("[/THINK]")
        # mistral-common encodes no think chunk before v13, whatever the vocabulary holds.
        return (None, None) if self.version == "v11" or None in ids else ids


class Detokenizer:
    """One stream of ids to text: all pieces joined are Tokenizer.decode of all ids.

    Bytes of a character that is not complete yet are held back, so a piece never ends with a
    U+FFFD that a later token would have mended.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that this token completes, often none."""
        piece = self._tokenizer.token_bytes(token_id)
        # A control token (no bytes) ends the character before it, as in mistral-common's decode.
        return self._decoder.decode(piece, final=not piece)

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that never became complete."""
        return self._decoder.decode(b"", final=True)


def byte_alphabet() -> dict[int, str]:
    """GPT-2's alphabet, in which tokenizer.json and GGUF files write bytes as characters.

    A printable byte is its own character; the others are U+0100 and up.
    """
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    alphabet = {byte: chr(byte) for byte in itself}
    return alphabet | {byte: chr(0x100 + place) for place, byte in enumerate(others)}


def refused(error: Exception) -> RequestError:
    """An exception of mistral-common or pydantic as one sentence for the caller."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    elif isinstance(error, MistralCommonException):
        reason = error.message
    else:
        reason = str(error) or type(error).__name__
    reason = " ".join(reason.split()).rstrip(".")
    return RequestError(f"The messages cannot be made into a prompt: {reason}.")


def _load(path: Path) -> tuple[_ChatTokenizer, Tekkenizer]:
    try:
        mistral: _ChatTokenizer = MistralTokenizer.from_file(path, mode=ValidationMode.serving)
        tekken = mistral.instruct_tokenizer.tokenizer
    # Errors that mistral-common lets through for files of another kind.
    except (MistralCommonException, AssertionError, AttributeError, LookupError) as error:
        raise _broken(path) from error
    except (TypeError, ValueError) as error:
        raise _broken(path) from error
    if not isinstance(tekken, Tekkenizer):
        raise _broken(path)
    return mistral, tekken


def _broken(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is not a complete {TEKKEN_FILE}: download it again.")
