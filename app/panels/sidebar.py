"""The list of conversations: search, rename, pin, delete, export, import."""

import base64
import binascii
from typing import Literal

from magistral_mlx.app.panels.calls import ConversationForm, Form, Result, ServerCall, server_calls
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.store.records import Conversation
from magistral_mlx.app.store.transfer import file_name, import_json, to_json, to_markdown
from magistral_mlx.errors import UserError


class SearchForm(Form):
    """Text to find in titles and messages; empty for all conversations."""

    text: str = ""


class RenameForm(ConversationForm):
    """A conversation's new title."""

    title: str


class PinForm(ConversationForm):
    """Whether a conversation stays at the top."""

    pinned: bool


class ExportForm(ConversationForm):
    """The format of an exported file."""

    form: Literal["markdown", "json"]


class ImportForm(Form):
    """An exported file, in base64."""

    data: str


def sidebar_calls(services: Services) -> list[ServerCall]:
    """The calls of the sidebar."""
    store = services.store

    def search(form: SearchForm) -> Result:
        return {"conversations": [_listed(each) for each in store.conversations(form.text)]}

    def rename(form: RenameForm) -> Result:
        store.rename(form.conversation, form.title)
        return _listed(store.conversation(form.conversation))

    def pin(form: PinForm) -> Result:
        store.pin(form.conversation, pinned=form.pinned)
        return _listed(store.conversation(form.conversation))

    def delete_conversation(form: ConversationForm) -> Result:
        run = services.runs.of(form.conversation)
        if run is not None:
            run.stop()
            run.join(5.0)
        store.delete(form.conversation)
        return {}

    def export(form: ExportForm) -> Result:
        record = store.conversation(form.conversation)
        if form.form == "json":
            return {"name": file_name(record, ".json"), "text": to_json(store, record.id)}
        return {"name": file_name(record, ".md"), "text": to_markdown(store, record.id)}

    def import_file(form: ImportForm) -> Result:
        return _listed(import_json(store, decoded(form.data)))

    return server_calls(search, rename, pin, delete_conversation, export, import_file)


def decoded(data: str) -> bytes:
    """The bytes of a file as the script sends it. Raises UserError if it is not base64."""
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise UserError("The file arrived damaged: add it again.") from None


def _listed(record: Conversation) -> Result:
    return {
        "id": record.id,
        "title": record.title,
        "pinned": record.pinned,
        "updated": record.updated,
    }
