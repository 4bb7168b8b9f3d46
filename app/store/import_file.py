"""Reading an exported conversation: a file from anywhere, so nothing in it is taken on trust."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args
from uuid import uuid4

from magistral_mlx.app.files.attachments import Attachment, safe_name
from magistral_mlx.app.store.records import (
    Conversation,
    Ending,
    Figures,
    MessageRole,
    StoredMessage,
    is_real,
    is_whole,
)
from magistral_mlx.errors import UserError
from magistral_mlx.events import FinishReason

MAX_BYTES = 32 << 20
MAX_MESSAGES = 20_000
MAX_TITLE = 1_000
MAX_NAME = 200
MAX_DEPTH = 8
"""Our own files nest five deep."""

_Choice = TypeVar("_Choice", bound=str)

_ENDINGS: tuple[Ending, ...] = (*get_args(FinishReason), "failed")
_ROLES: tuple[MessageRole, ...] = get_args(MessageRole)
_LATEST = 253_402_300_799.0
"""The last second of the year 9999."""


def read_conversation(
    data: bytes, *, form: str, version: int
) -> tuple[Conversation, list[StoredMessage]]:
    """The conversation and its messages, under new ids, parents before children.

    Raises UserError, in one sentence, for whatever is not such a file.
    """
    root = _parsed(data)
    if root.get("format") != form:
        raise _refused("it is not a conversation that this page exported")
    if root.get("version") != version:
        raise _refused(
            f"it has version {_short(root.get('version'))} of the format and this page reads "
            f"{version}; update magistral-mlx"
        )
    given = root.get("messages")
    if not isinstance(given, list) or len(given) > MAX_MESSAGES:
        raise _refused(f"messages is not a list of at most {MAX_MESSAGES:,}")
    reader = _Reader(conversation=uuid4().hex, ids={}, groups={})
    messages = [reader.message(item, place) for place, item in enumerate(given, start=1)]
    return reader.head(root.get("conversation"), messages), messages


def _parsed(data: bytes) -> Mapping[str, object]:
    if len(data) > MAX_BYTES:
        raise _refused(f"it is larger than {MAX_BYTES >> 20} MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused("it is not JSON in UTF-8") from error
    _check_depth(text)
    try:
        root = json.loads(text)
    except ValueError as error:
        raise _refused("it is not JSON") from error
    if not isinstance(root, dict):
        raise _refused("it is not a conversation that this page exported")
    return root


def _check_depth(text: str) -> None:
    """Refuse deep nesting before it is parsed; brackets inside strings do not count."""
    depth = 0
    for found in re.finditer(r'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', text, re.DOTALL):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth > MAX_DEPTH:
            raise _refused("its lists and objects are nested too deeply")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads messages in turn; `ids` and `groups` lead from the file's names to ours."""

    conversation: str
    ids: dict[str, str]
    groups: dict[str, str]

    def head(self, given: object, messages: Sequence[StoredMessage]) -> Conversation:
        fields = _object(given, "conversation")
        leaf = fields.get("leaf")
        return Conversation(
            id=self.conversation,
            title=_text(fields, "title", "conversation", most=MAX_TITLE),
            created=_time(fields, "created", "conversation"),
            updated=_time(fields, "updated", "conversation"),
            pinned=fields.get("pinned") is True,
            leaf=self._known(leaf, "conversation") or (messages[-1].id if messages else None),
        )

    def message(self, given: object, place: int) -> StoredMessage:
        where = f"message {place}"
        fields = _object(given, where)
        parent = self._known(fields.get("parent"), where)
        role = _one_of(fields, "role", _ROLES, where)
        model, group = fields.get("model"), fields.get("group")
        return StoredMessage(
            id=self._new_id(fields, where),
            conversation=self.conversation,
            parent=parent,
            role=role,
            content=_text(fields, "content", where),
            reasoning=_reasoning(fields, role, where),
            attachments=_attachments(fields.get("attachments", []), where),
            ending=_ending(fields, where),
            figures=_figures(fields.get("figures"), where),
            model=None if model is None else _text(fields, "model", where, most=MAX_NAME),
            group=None if group is None else self._new_group(fields, where),
            created=_time(fields, "created", where),
        )

    def _new_id(self, fields: Mapping[str, object], where: str) -> str:
        given = _text(fields, "id", where, most=MAX_NAME)
        if given in self.ids:
            raise _refused(f"{where} has the id of an earlier one")
        self.ids[given] = uuid4().hex
        return self.ids[given]

    def _new_group(self, fields: Mapping[str, object], where: str) -> str:
        given = _text(fields, "group", where, most=MAX_NAME)
        return self.groups.setdefault(given, uuid4().hex)

    def _known(self, given: object, where: str) -> str | None:
        """Our id of a message that came before: so no circle can come about."""
        if given is None:
            return None
        if not isinstance(given, str) or given not in self.ids:
            raise _refused(f"{where} names {_short(given)}, which is no message before it")
        return self.ids[given]


def _reasoning(fields: Mapping[str, object], role: MessageRole, where: str) -> str | None:
    if fields.get("reasoning") is None:
        return None
    if role != "assistant":
        raise _refused(f"{where} is a user's and has reasoning")
    return _text(fields, "reasoning", where)


def _attachments(given: object, where: str) -> tuple[Attachment, ...]:
    if not isinstance(given, list):
        raise _refused(f"attachments of {where} are not a list")
    made: list[Attachment] = []
    for item in given:
        fields = _object(item, f"an attachment of {where}")
        tokens = fields.get("tokens")
        if not is_whole(tokens) or tokens < 0:
            raise _refused(f"an attachment of {where} has {_short(tokens)} tokens")
        name = _text(fields, "name", where, most=MAX_NAME)
        made.append(Attachment(safe_name(name), _text(fields, "text", where), tokens))
    return tuple(made)


def _ending(fields: Mapping[str, object], where: str) -> Ending | None:
    if fields.get("ending") is None:
        return None
    return _one_of(fields, "ending", _ENDINGS, where)


def _figures(given: object, where: str) -> Figures | None:
    return None if given is None else Figures.from_json(_object(given, f"figures of {where}"))


def _object(given: object, where: str) -> Mapping[str, object]:
    if not isinstance(given, dict):
        raise _refused(f"{where} is not an object")
    return given


def _text(fields: Mapping[str, object], name: str, where: str, *, most: int = MAX_BYTES) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > most:
        raise _refused(f"{name} of {where} is {_short(value)} where a text is needed")
    return value


def _one_of(
    fields: Mapping[str, object], name: str, allowed: Sequence[_Choice], where: str
) -> _Choice:
    value = fields.get(name)
    for choice in allowed:
        if value == choice:
            return choice
    raise _refused(f"{name} of {where} is {_short(value)}, which is unknown")


def _time(fields: Mapping[str, object], name: str, where: str) -> float:
    value = fields.get(name)
    if not is_real(value) or not 0 <= value <= _LATEST:
        raise _refused(f"{name} of {where} is {_short(value)} where a time is needed")
    return float(value)


def _short(value: object) -> str:
    """The value as it goes into a message: one line of a few characters."""
    shown = repr(value)[:41]
    return shown if len(shown) < 41 else shown[:40] + "…"


def _refused(reason: str) -> UserError:
    return UserError(f"This file cannot be imported, because {reason}: choose another file.")
