"""Asking: files, the size of a draft, sending, editing and regenerating."""

from collections.abc import Sequence

from pydantic import Field

from magistral_mlx.app.files.attachments import (
    Attachment,
    read_attachment,
    safe_name,
    with_attachments,
)
from magistral_mlx.app.panels.calls import Form, MessageForm, Result, ServerCall, server_calls
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.panels.settings import load_settings
from magistral_mlx.app.panels.sidebar import decoded
from magistral_mlx.app.store import branches
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.app.store.titles import title_of
from magistral_mlx.errors import UserError
from magistral_mlx.text.conversation import Message


class FileForm(Form):
    """A dropped file, in base64."""

    name: str = Field(max_length=500)
    data: str = Field(max_length=40_000_000)


class AttachedFile(Form):
    """A file's text, as `attach` returned it."""

    name: str
    text: str
    tokens: int = Field(ge=0)


class DraftForm(Form):
    """A message that is being written; it will be below `parent`."""

    parent: str | None = None
    text: str
    files: tuple[AttachedFile, ...] = ()


class QuestionForm(DraftForm):
    """A message to answer; without a conversation it starts one."""

    conversation: str | None = None
    chains: int | None = Field(default=None, ge=1, le=8)


class EditForm(MessageForm):
    """A question's new text; it keeps its files."""

    text: str


def composer_calls(services: Services) -> list[ServerCall]:
    """The calls of the composer, and those that ask a question again."""

    def attach(form: FileForm) -> Result:
        data = decoded(form.data)
        file = read_attachment(data, form.name, services.models.model().tokenizer)
        return {"name": file.name, "text": file.text, "tokens": file.tokens}

    def count(form: DraftForm) -> Result:
        return _size(services, form.parent, form.text, _attachments(form.files))

    def send(form: QuestionForm) -> Result:
        if not form.text.strip() and not form.files:
            raise UserError("The message is empty: write something or attach a file.")
        if form.conversation:
            _check_idle(services, form.conversation)
        files = _attachments(form.files)
        if refused := _does_not_fit(services, form.parent, form.text, files):
            return {"refused": refused}
        title = title_of(form.text, fallback=form.files[0].name if form.files else "")
        conversation = form.conversation or services.store.create_conversation(title).id
        question = services.store.add_message(
            StoredMessage(
                conversation=conversation,
                parent=form.parent,
                role="user",
                content=form.text,
                attachments=files,
            )
        )
        _start(services, question.id, form.chains)
        return {"conversation": conversation, "question": question.id}

    def edit(form: EditForm) -> Result:
        old = services.store.message(form.message)
        _check_idle(services, old.conversation)
        if refused := _does_not_fit(services, old.parent, form.text, old.attachments):
            return {"refused": refused}
        question = branches.edit(services.store, old.id, form.text)
        _start(services, question.id)
        return {"conversation": old.conversation, "question": question.id}

    def regenerate(form: MessageForm) -> Result:
        message = services.store.message(form.message)
        question = (
            message if message.role == "user" else branches.question_of(services.store, message.id)
        )
        _start(services, question.id)
        return {"conversation": question.conversation}

    return server_calls(attach, count, send, edit, regenerate)


def _check_idle(services: Services, conversation: str) -> None:
    if services.runs.of(conversation) is not None:
        raise UserError("An answer is being written: stop it first.")


def _does_not_fit(
    services: Services, parent: str | None, text: str, files: Sequence[Attachment]
) -> Result | None:
    """The size, if no room is left for an answer; else None."""
    size = _size(services, parent, text, files)
    return size if size["tokens"] >= size["window"] else None


def _size(
    services: Services, parent: str | None, text: str, files: Sequence[Attachment]
) -> dict[str, int]:
    """The prompt's tokens and the window, for a message below `parent`."""
    model, settings = services.models.model(), load_settings(services.store)
    messages = [Message("system", settings.system)] if settings.system.strip() else []
    if parent is not None:
        messages = branches.conversation_messages(services.store, parent, system=settings.system)
    question = Message("user", with_attachments(text, files) or " ")
    tokens = model.prompt_tokens([*messages, question], settings.options())
    return {"tokens": tokens, "window": model.window}


def _start(services: Services, question: str, chains: int | None = None) -> None:
    settings = load_settings(services.store)
    services.runs.start(
        services.models.model(),
        question,
        settings.options(),
        chains=chains or settings.chains,
        system=settings.system,
    )


def _attachments(files: Sequence[AttachedFile]) -> tuple[Attachment, ...]:
    return tuple(Attachment(safe_name(file.name), file.text, file.tokens) for file in files)
