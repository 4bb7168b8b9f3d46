"""The list of conversations: search, rename, pin, delete, export, import."""

import base64
import binascii
from typing import Literal

from magistral_mlx.app.panels.calls import ConversationForm, Form, Result, ServerCall, server_call
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.store.records import Conversation
from magistral_mlx.app.store.transfer import file_name, import_json, to_json, to_markdown
from magistral_mlx.errors import UserError


class Search(Form):
    """What must occur in a title or a message; empty for all."""

    text: str = ""


class Rename(ConversationForm):
    """Its new title."""

    title: str


class Pin(ConversationForm):
    """Whether it stays at the top."""

    pinned: bool


class Export(ConversationForm):
    """The form of the file."""

    form: Literal["markdown", "json"]


class Import(Form):
    """A file of ours, in base64."""

    data: str


def sidebar_calls(services: Services) -> list[ServerCall]:
    """What the sidebar asks for."""
    store = services.store

    def search(form: Search) -> Result:
        return {"conversations": [_listed(each) for each in store.conversations(form.text)]}

    def rename(form: Rename) -> Result:
        store.rename(form.conversation, form.title)
        return _listed(store.conversation(form.conversation))

    def pin(form: Pin) -> Result:
        store.pin(form.conversation, pinned=form.pinned)
        return _listed(store.conversation(form.conversation))

    def delete(form: ConversationForm) -> Result:
        run = services.runs.of(form.conversation)
        if run is not None:
            run.stop()
            run.join(5.0)
        store.delete(form.conversation)
        return {}

    def export(form: Export) -> Result:
        record = store.conversation(form.conversation)
        if form.form == "json":
            return {"name": file_name(record, ".json"), "text": to_json(store, record.id)}
        return {"name": file_name(record, ".md"), "text": to_markdown(store, record.id)}

    def take_in(form: Import) -> Result:
        return _listed(import_json(store, decoded(form.data)))

    return [
        server_call("search", Search, search),
        server_call("rename", Rename, rename),
        server_call("pin", Pin, pin),
        server_call("delete_conversation", ConversationForm, delete),
        server_call("export", Export, export),
        server_call("import_file", Import, take_in),
    ]


def decoded(data: str) -> bytes:
    """The bytes of a file as the script sends it. Raises UserError for what is no base64."""
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise UserError("The file arrived damaged: try it again.") from None


def _listed(record: Conversation) -> Result:
    return {
        "id": record.id,
        "title": record.title,
        "pinned": record.pinned,
        "updated": record.updated,
    }
