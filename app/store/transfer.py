"""A conversation as a file: to Markdown and JSON, and back from JSON."""

import json
import unicodedata
from dataclasses import asdict

from magistral_mlx.app.files.attachments import safe_name
from magistral_mlx.app.store.branches import shown_path
from magistral_mlx.app.store.import_file import read_conversation
from magistral_mlx.app.store.records import Conversation, StoredMessage
from magistral_mlx.app.store.store import Store

FORMAT = "magistral-mlx conversation"
VERSION = 1

_MAX_FILE_NAME = 80


def to_markdown(store: Store, conversation: str) -> str:
    """The path shown, as a document: reasoning as quotations, answers as they are.

    Raises UserError when it is gone.
    """
    title = store.conversation(conversation).title
    parts = [f"# {title}"] if title else []
    for turn in shown_path(store, conversation):
        parts += _message_parts(turn.message)
    return "\n\n".join(parts) + "\n"


def to_json(store: Store, conversation: str) -> str:
    """The whole tree, for `import_json`. Raises UserError when it is gone."""
    kept = asdict(store.conversation(conversation))
    messages = [asdict(message) for message in store.messages(conversation)]
    for message in messages:
        del message["conversation"]
    data = {"format": FORMAT, "version": VERSION, "conversation": kept, "messages": messages}
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def import_json(store: Store, data: bytes) -> Conversation:
    """Add a conversation that `to_json` wrote, under new ids.

    Raises UserError, in one sentence, for any other file: nothing is added then.
    """
    conversation, messages = read_conversation(data, form=FORMAT, version=VERSION)
    store.add_conversation(conversation, messages)
    return conversation


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
