"""A conversation as a file: to Markdown and JSON, and back from JSON."""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from reprlib import Repr
from typing import Annotated
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from magistral_mlx.app.files.attachments import Attachment, safe_name
from magistral_mlx.app.store.branches import shown_path
from magistral_mlx.app.store.records import (
    Conversation,
    Count,
    Ending,
    Figures,
    MessageRole,
    StoredMessage,
)
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import UserError

FORMAT = "magistral-mlx conversation"
VERSION = 1
MAX_BYTES = 32 << 20
MAX_MESSAGES = 20_000

_MAX_FILE_NAME = 80
_LATEST = 253_402_300_799.0
"""The last second of the year 9999."""

_Name = Annotated[str, Field(max_length=200)]
_Time = Annotated[float, Field(ge=0, le=_LATEST, allow_inf_nan=False)]


class _FilePart(BaseModel):
    """A part of the file. Unknown fields are ignored; values are never converted."""

    model_config = ConfigDict(strict=True, frozen=True)


class _AttachmentEntry(_FilePart):
    name: _Name
    text: str
    tokens: Count


class _MessageEntry(_FilePart):
    id: _Name
    parent: str | None = None
    role: MessageRole
    content: str
    reasoning: str | None = None
    attachments: list[_AttachmentEntry] = []
    ending: Ending | None = None
    figures: dict[str, object] | None = None
    model: _Name | None = None
    group: _Name | None = None
    created: _Time


class _ConversationEntry(_FilePart):
    title: Annotated[str, Field(max_length=1_000)]
    created: _Time
    updated: _Time
    pinned: bool = False
    leaf: str | None = None


class _ConversationFile(_FilePart):
    conversation: _ConversationEntry
    messages: Annotated[list[_MessageEntry], Field(max_length=MAX_MESSAGES)]


def to_markdown(store: Store, conversation: str) -> str:
    """The path shown, as a document: reasoning as quotations, answers as they are.

    Raises UserError if the conversation is gone.
    """
    title = store.conversation(conversation).title
    parts = [f"# {title}"] if title else []
    for turn in shown_path(store, conversation):
        parts += _message_parts(turn.message)
    return "\n\n".join(parts) + "\n"


def to_json(store: Store, conversation: str) -> str:
    """The whole tree, for `import_json`. Raises UserError if the conversation is gone."""
    kept = asdict(store.conversation(conversation))
    messages = [asdict(message) for message in store.messages(conversation)]
    for message in messages:
        del message["conversation"]
    data = {"format": FORMAT, "version": VERSION, "conversation": kept, "messages": messages}
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def import_json(store: Store, data: bytes) -> Conversation:
    """Add a conversation that `to_json` wrote, under new ids.

    Raises UserError, in one sentence, for any other file; nothing is added then.
    """
    file = _read(data)
    conversation, ids = uuid4().hex, dict[str, str]()
    messages = _messages(file.messages, conversation, ids)
    entry = file.conversation
    leaf = messages[-1].id if messages else None
    if entry.leaf is not None:
        leaf = _known(entry.leaf, ids, "conversation.leaf")
    made = Conversation(conversation, entry.title, entry.created, entry.updated, entry.pinned, leaf)
    store.add_conversation(made, messages)
    return made


def file_name(conversation: Conversation, suffix: str) -> str:
    """A safe name for the exported file, from the title: "Primes below 60.md"."""
    kept = "".join(
        " " if c in '/\\:*?"<>|#%' or unicodedata.category(c)[0] == "C" else c
        for c in conversation.title
    )
    words = " ".join(kept.split())[:_MAX_FILE_NAME]
    stem = safe_name(words) if words.strip(". ") else "conversation"
    return f"{stem}.{suffix.lstrip('.')}"


def _message_parts(message: StoredMessage) -> list[str]:
    parts = [f"## {message.role.capitalize()}"]
    parts += [f"*{file.name}* ({file.tokens:,} tokens)" for file in message.attachments]
    if message.reasoning:
        parts.append("\n".join(f"> {line}".rstrip() for line in message.reasoning.splitlines()))
    if message.content:
        parts.append(message.content)
    return parts


def _read(data: bytes) -> _ConversationFile:
    if len(data) > MAX_BYTES:
        raise _refused(f"it is larger than {MAX_BYTES >> 20} MB")
    try:
        root = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _refused("it is not JSON in UTF-8") from error
    except ValueError as error:
        raise _refused("it is not JSON") from error
    except RecursionError as error:
        raise _refused("its lists and objects are nested too deeply") from error
    if not isinstance(root, dict) or root.get("format") != FORMAT:
        raise _refused("it is not a conversation that this page exported")
    if root.get("version") != VERSION:
        raise _refused(
            f"it has version {_short(root.get('version'))} of the format and this page reads "
            f"version {VERSION}; update magistral-mlx"
        )
    try:
        return _ConversationFile.model_validate(root)
    except ValidationError as error:
        issue = error.errors(include_url=False)[0]
        where, problem = ".".join(map(str, issue["loc"])), issue["msg"].lower()
        if issue["type"] == "missing":
            raise _refused(f"{where} is missing") from error
        raise _refused(f"{where} is {_short(issue['input'])} ({problem})") from error


def _messages(
    entries: Sequence[_MessageEntry], conversation: str, ids: dict[str, str]
) -> list[StoredMessage]:
    """The messages, parents first; fills `ids`, which lead from the file's ids to ours."""
    groups: dict[str, str] = {}
    messages: list[StoredMessage] = []
    for index, entry in enumerate(entries):
        where = f"messages.{index}"
        if entry.id in ids:
            raise _refused(f"{where} has the id of an earlier message")
        if entry.reasoning is not None and entry.role == "user":
            raise _refused(f"{where} is a user's message with reasoning")
        # Only earlier messages are known, so the tree has no cycles.
        parent = None if entry.parent is None else _known(entry.parent, ids, f"{where}.parent")
        ids[entry.id] = uuid4().hex
        message = StoredMessage(
            id=ids[entry.id],
            conversation=conversation,
            parent=parent,
            role=entry.role,
            content=entry.content,
            reasoning=entry.reasoning,
            attachments=tuple(
                Attachment(safe_name(file.name), file.text, file.tokens)
                for file in entry.attachments
            ),
            ending=entry.ending,
            figures=None if entry.figures is None else Figures.from_json(entry.figures),
            model=entry.model,
            group=None if entry.group is None else groups.setdefault(entry.group, uuid4().hex),
            created=entry.created,
        )
        messages.append(message)
    return messages


def _known(given: str, ids: dict[str, str], where: str) -> str:
    if given not in ids:
        raise _refused(f"{where} is {_short(given)}, which is no message before it")
    return ids[given]


def _short(value: object) -> str:
    """The value for a message: one line of a few characters."""
    shown = Repr()
    shown.maxstring = shown.maxother = shown.maxlong = 40
    return shown.repr(value)


def _refused(reason: str) -> UserError:
    return UserError(f"This file cannot be imported, because {reason}: choose another file.")
