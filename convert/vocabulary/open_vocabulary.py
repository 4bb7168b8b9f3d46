"""A source's tokenizer: reading it, checking it, and writing it for other programs."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mistral_common.exceptions import TokenizerException
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import Tokenizer as JsonTokenizer

from magistral_mlx.convert.vocabulary.tekken_json import (
    CHAT_TEMPLATE,
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
    chat_template,
    tokenizer_config,
    tokenizer_of,
)
from magistral_mlx.errors import CheckpointError
from magistral_mlx.text.template_tokenizer import TemplateTokenizer
from magistral_mlx.text.tokenizer import TEKKEN_FILE

SAMPLE = (
    "What is 12 + 30? Quelle est la réponse ? Wieviel ergibt das? Πόσο κάνει; १२ + ३०? "
    "答えは何ですか。답은 무엇입니까? Сколько будет? ما هو الجواب؟ উত্তর কত? 等于多少？\n"
    "<think>\n42\n</think>\n\tx = y² ≠ 🧮👩🏽‍🔬"
)
"""The scripts of the model card's languages, the thinking tags, white space and emoji."""

TEMPLATE_FILES = (TOKENIZER_CONFIG, CHAT_TEMPLATE, "special_tokens_map.json", "added_tokens.json")
"""Files that belong to a tokenizer.json, where they exist."""


def open_vocabulary(path: Path, *, vocab_size: int) -> "Vocabulary":
    """Open tekken.json or tokenizer.json. vocab_size: rows of the model's embedding.

    Raises CheckpointError when the file is damaged or belongs to another model.
    """
    vocabulary: Vocabulary
    if path.name == TOKENIZER_JSON:
        vocabulary = JsonVocabulary(path, TemplateTokenizer.open(path))
    else:
        try:
            vocabulary = TekkenVocabulary(path, Tekkenizer.from_file(path), _digest(path))
        except (TokenizerException, ValueError, TypeError, KeyError, AssertionError) as error:
            raise CheckpointError(
                f"{path} is not a Tekken vocabulary ({error}): copy it from the original "
                "checkpoint."
            ) from error
    if vocabulary.size > vocab_size:
        raise CheckpointError(
            f"{path} has {vocabulary.size:,} tokens and the model {vocab_size:,}: copy the "
            f"{path.name} of this model."
        )
    return vocabulary


def tokenizer_files(path: Path) -> tuple[Path, ...]:
    """A tokenizer's file and, beside a tokenizer.json, the files that belong to it."""
    beside = TEMPLATE_FILES if path.name == TOKENIZER_JSON else ()
    others = (path.with_name(name) for name in beside)
    return (path, *(other for other in others if other.is_file()))


def check_ids(folder: Path, vocabulary: "Vocabulary") -> None:
    """Compare a folder's tokenizer.json with the vocabulary. Raises CheckpointError."""
    path = folder / TOKENIZER_JSON
    _compare_ids(JsonTokenizer.from_file(str(path)), vocabulary, path)


@dataclass(frozen=True, slots=True)
class TekkenVocabulary:
    """tekken.json, read by mistral-common. digest: SHA-256 (hex) of the file."""

    path: Path
    tekken: Tekkenizer
    digest: str

    @property
    def size(self) -> int:
        return self.tekken.n_words

    @property
    def bos_id(self) -> int:
        return self.tekken.bos_id

    @property
    def begin_ids(self) -> list[int]:
        """The ids that every text begins with."""
        return [self.bos_id]

    @property
    def end_ids(self) -> tuple[int, ...]:
        return (self.tekken.eos_id,)

    def encode(self, text: str) -> list[int]:
        """Plain text to ids, without bos and eos."""
        return self.tekken.encode(text, bos=False, eos=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text, without control tokens and ids beyond the vocabulary."""
        known = [token for token in ids if token < self.size]
        return self.tekken.decode(known, special_token_policy=SpecialTokenPolicy.IGNORE)

    def check(self) -> list[int]:
        """The ids of SAMPLE. Raises CheckpointError when they do not decode to it."""
        ids = self.encode(SAMPLE)
        if self.tekken.decode(ids) != SAMPLE:
            raise CheckpointError(
                f"{self.path} does not decode what it encodes: copy it from the original "
                "checkpoint."
            )
        return ids

    def write(self, folder: Path, *, window: int, system_prompt: str | None) -> None:
        """Copy tekken.json, and write its equivalent tokenizer.json with a chat template.

        Raises CheckpointError when the two give different ids.
        """
        copy = folder / TEKKEN_FILE
        shutil.copyfile(self.path, copy)
        if _digest(copy) != self.digest:
            raise CheckpointError(f"{self.path} changed while it was copied: run this again.")
        tokenizer, path = tokenizer_of(self.tekken, copy), folder / TOKENIZER_JSON
        tokenizer.save(str(path), pretty=False)
        # Not the file: reading it takes 100 MB.
        _compare_ids(tokenizer, self, path)
        config = json.dumps(tokenizer_config(self.tekken, window=window), indent=2)
        (folder / TOKENIZER_CONFIG).write_text(config + "\n", encoding="utf-8")
        template = chat_template(copy, system_prompt)
        if template is not None:
            (folder / CHAT_TEMPLATE).write_text(template, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class JsonVocabulary:
    """tokenizer.json, read by the tokenizers library."""

    path: Path
    tokenizer: TemplateTokenizer

    @property
    def size(self) -> int:
        return self.tokenizer.vocab_size

    @property
    def bos_id(self) -> int | None:
        bos, eos = self.tokenizer.bos_id, self.tokenizer.eos_id
        return None if bos == eos else bos

    @property
    def begin_ids(self) -> list[int]:
        return self.tokenizer.begin_ids

    @property
    def end_ids(self) -> tuple[int, ...]:
        return self.tokenizer.end_ids

    def encode(self, text: str) -> list[int]:
        """Plain text to ids, without bos and eos."""
        return self.tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text."""
        return self.tokenizer.decode(ids)

    def check(self) -> list[int]:
        """The ids of SAMPLE. A vocabulary for one language may lack some of its characters."""
        return self.encode(SAMPLE)

    def write(self, folder: Path, *, window: int, system_prompt: str | None) -> None:
        """Copy tokenizer.json and the files that belong to it."""
        for path in tokenizer_files(self.path):
            shutil.copyfile(path, folder / path.name)


Vocabulary = TekkenVocabulary | JsonVocabulary
"""Token ids of a checkpoint, and the files that define them."""


def _compare_ids(tokenizer: JsonTokenizer, vocabulary: Vocabulary, path: Path) -> None:
    tokenizer.encode_special_tokens = True
    if tokenizer.encode(SAMPLE, add_special_tokens=False).ids != vocabulary.encode(SAMPLE):
        raise CheckpointError(
            f"{path} gives other token ids than {vocabulary.path.name}: delete it, "
            "and report this with the model's name."
        )


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
