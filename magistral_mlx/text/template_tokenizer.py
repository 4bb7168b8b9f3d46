"""Text to token ids for checkpoints without tekken.json: tokenizer.json and a chat template."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from llguidance import LLTokenizer
from mistral_common.guidance.grammar_factory import GrammarFactory
from mistral_common.protocol.instruct.messages import ChatMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from tokenizers import Tokenizer as JsonTokenizer

from magistral_mlx.checkpoint.json_file import existing_file, read_json
from magistral_mlx.errors import CheckpointError, RequestError
from magistral_mlx.spec import THINK_CLOSE, THINK_OPEN
from magistral_mlx.text.chat_template import ChatTemplate
from magistral_mlx.text.tokenizer import TEKKEN_FILE, Tokenizer, byte_alphabet

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"

ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


class TemplateTokenizer(Tokenizer):
    """The tokenizer of a plain Llama-architecture checkpoint. Immutable: threads may share it.

    As in transformers, special tokens in a rendered template are special tokens wherever they
    stand; in text that is encoded alone they stay text.
    """

    is_magistral = False

    def __init__(
        self,
        path: Path,
        names: Mapping[str, str],
        ids: Mapping[str, Sequence[int]],
        template: str | None,
    ) -> None:
        """Use `open`, which reads the files. ids: by role, of bos_token and eos_token."""
        self._json = path.read_text(encoding="utf-8")
        self._rendered = _load(path)
        self._plain = _load(path)
        self._plain.encode_special_tokens = True
        self._template = None if template is None else ChatTemplate(template, names)
        self._name = path.parent.name
        added = self._rendered.get_added_tokens_decoder()
        self._added = {
            token: b"" if piece.special else piece.content.encode()
            for token, piece in added.items()
        }
        self._control = {piece.content: token for token, piece in added.items() if piece.special}
        self._bytes = {character: byte for byte, character in byte_alphabet().items()}
        self._is_byte_level = '"ByteLevel"' in json.dumps(json.loads(self._json).get("decoder"))
        self.version = "template"
        self.vocab_size = 1 + max(self._rendered.get_vocab(with_added_tokens=True).values())
        self.eos_id = ids["eos_token"][0]
        self.end_ids = tuple(ids["eos_token"])
        self.bos_id = ids["bos_token"][0] if ids["bos_token"] else self.eos_id
        self.has_reasoning = template is not None and THINK_OPEN in template
        controls = self.control_id(THINK_OPEN), self.control_id(THINK_CLOSE)
        is_control = self.has_reasoning and None not in controls
        self.think_open_id, self.think_close_id = controls if is_control else (None, None)

    @classmethod
    def open(cls, folder_or_file: Path) -> "TemplateTokenizer":
        """Open the tokenizer.json in a checkpoint folder, or the file itself.

        Raises CheckpointError if it is missing or broken, or no file names its end token.
        """
        path = folder_or_file / TOKENIZER_FILE if folder_or_file.is_dir() else folder_or_file
        existing_file(path)
        config = _optional_json(path.with_name(CONFIG_FILE))
        names = {role: name for role in ROLES if (name := _name(config.get(role))) is not None}
        return cls(path, names, _ids(path, names), _template(path, config))

    def control_id(self, name: str) -> int | None:
        """The id of a special token, or None if the vocabulary has none of this name."""
        return self._control.get(name)

    def encode(self, text: str) -> list[int]:
        """Plain text to ids: special tokens written out in the text stay text; no bos, no eos."""
        return self._plain.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text. Special tokens have none; bytes that are not UTF-8 become U+FFFD."""
        stream = self.detokenizer()
        return "".join(map(stream.push, ids)) + stream.finish()

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token, perhaps a part of a character; empty for a special token."""
        if token_id in self._added:
            return self._added[token_id]
        piece = self._rendered.id_to_token(token_id)
        if piece is None:
            return b""  # an unused row of the embedding
        if self._is_byte_level and self._bytes.keys() >= set(piece):
            return bytes(self._bytes[character] for character in piece)
        if piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:-1], 16)])
        return piece.replace("▁", " ").encode()

    @property
    def begin_ids(self) -> list[int]:
        """The ids that tokenizer.json puts before plain text, as in transformers: one or none."""
        text = self._rendered.encode("a", add_special_tokens=False).ids
        ids = self._rendered.encode("a", add_special_tokens=True).ids
        return ids[: ids.index(text[0])] if text else []

    def encode_chat(self, request: ChatCompletionRequest[ChatMessage]) -> list[int]:
        """The prompt of a chat request, by the checkpoint's template. Raises RequestError."""
        if self._template is None:
            raise RequestError(
                f"{self._name} has no chat template: send it plain text (/v1/completions)."
            )
        data = request.to_openai()
        text = self._template.render(data["messages"], tools=data.get("tools") or None)
        return self._rendered.encode(text, add_special_tokens=False).ids

    @property
    def grammar_factory(self) -> GrammarFactory:
        """mistral-common has tool grammars for its own vocabulary only."""
        raise RequestError(f"{self._name} is not a Mistral model: its tool calls cannot be guided.")

    @cached_property
    def grammar_vocabulary(self) -> LLTokenizer:
        """The vocabulary as grammars see it."""
        return LLTokenizer(self._json, n_vocab=self.vocab_size, eos_token=list(self.end_ids))


def _load(path: Path) -> JsonTokenizer:
    try:
        return JsonTokenizer.from_file(str(path))
    # The library raises nothing more precise.
    except Exception as error:
        raise CheckpointError(
            f"{path} is not a complete {TOKENIZER_FILE}: download it again."
        ) from error


def _optional_json(path: Path) -> Mapping[str, object]:
    return read_json(path) if path.is_file() else {}


def _name(value: object) -> str | None:
    """A special token's text, plain or as older transformers wrote it."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _ids(path: Path, names: Mapping[str, str]) -> dict[str, list[int]]:
    """Ids of bos and of every eos: by name, and by number in the model's own files."""
    tokenizer = _load(path)
    ids = {}
    for role in ("bos_token", "eos_token"):
        named = tokenizer.token_to_id(names[role]) if role in names else None
        found = [*([] if named is None else [named]), *_numbered(path, f"{role}_id")]
        known = [token for token in found if tokenizer.id_to_token(token) is not None]
        ids[role] = list(dict.fromkeys(known))
    if not ids["eos_token"]:
        raise CheckpointError(
            f"{path.parent} does not name its end token: copy {CONFIG_FILE} from the model's "
            "repository."
        )
    return ids


def _numbered(path: Path, field: str) -> list[int]:
    """One id or several, from generation_config.json or else config.json."""
    for file in ("generation_config.json", "config.json"):
        value = _optional_json(path.with_name(file)).get(field)
        values = value if isinstance(value, list) else [value]
        found = [token for token in values if isinstance(token, int)]
        if found:
            return found
    return []


def _template(path: Path, config: Mapping[str, object]) -> str | None:
    """chat_template.jinja, or the template in tokenizer_config.json: one, or several by name."""
    file = path.with_name(TEMPLATE_FILE)
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):
        named = {part["name"]: part["template"] for part in found if isinstance(part, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def open_tokenizer(folder_or_file: Path) -> Tokenizer:
    """Open tekken.json, or else tokenizer.json, of a folder or given as a file.

    Raises CheckpointError if it cannot be used.
    """
    path = folder_or_file
    if path.is_dir():
        has_tekken = (path / TEKKEN_FILE).is_file() or not (path / TOKENIZER_FILE).is_file()
        path = path / (TEKKEN_FILE if has_tekken else TOKENIZER_FILE)
    if path.name == TOKENIZER_FILE:
        return TemplateTokenizer.open(path)
    return Tokenizer.open(path)
