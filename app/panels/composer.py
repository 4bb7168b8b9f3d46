"""Asking: files, the size of a draft, sending, editing and regenerating."""

from collections.abc import Sequence

from pydantic import Field

from magistral_mlx.app.files.attachments import (
    Attachment,
    read_attachment,
    safe_name,
    with_attachments,
)
from magistral_mlx.app.panels.calls import Form, MessageForm, Result, ServerCall, server_call
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.panels.settings import Settings, load_settings
from magistral_mlx.app.panels.sidebar import decoded
from magistral_mlx.app.store.branches import conversation_messages, edit, question_of
from magistral_mlx.app.store.titles import title_of
from magistral_mlx.errors import UserError
from magistral_mlx.magistral import Magistral
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
        model = services.models.model()
        return {"tokens": _prompt_tokens(services, model, form), "window": model.window}

    def send(form: QuestionForm) -> Result:
        return _send(services, form)

    def edit_question(form: EditForm) -> Result:
        return _edit(services, form)

    def regenerate(form: MessageForm) -> Result:
        message = services.store.message(form.message)
        question = message if message.role == "user" else question_of(services.store, message.id)
        _start(services, question.id, None)
        return {"conversation": question.conversation}

    return [
        server_call("attach", FileForm, attach),
        server_call("count", DraftForm, count),
        server_call("send", QuestionForm, send),
        server_call("edit", EditForm, edit_question),
        server_call("regenerate", MessageForm, regenerate),
    ]


def _send(services: Services, form: QuestionForm) -> Result:
    if not form.text.strip() and not form.files:
        raise UserError("The message is empty: write something or attach a file.")
    if form.conversation:
        _check_idle(services, form.conversation)
    refused = _does_not_fit(services, form)
    if refused is not None:
        return {"refused": refused}
    conversation = form.conversation or _new_conversation(services, form)
    question = services.store.add_message(
        conversation,
        parent=form.parent,
        role="user",
        content=form.text,
        attachments=_attachments(form.files),
    )
    _start(services, question.id, form.chains)
    return {"conversation": conversation, "question": question.id}


def _edit(services: Services, form: EditForm) -> Result:
    old = services.store.message(form.message)
    _check_idle(services, old.conversation)
    files = tuple(
        AttachedFile(name=file.name, text=file.text, tokens=file.tokens) for file in old.attachments
    )
    refused = _does_not_fit(services, DraftForm(parent=old.parent, text=form.text, files=files))
    if refused is not None:
        return {"refused": refused}
    question = edit(services.store, old.id, form.text)
    _start(services, question.id, None)
    return {"conversation": old.conversation, "question": question.id}


def _check_idle(services: Services, conversation: str) -> None:
    if services.runs.of(conversation) is not None:
        raise UserError("An answer is being written: stop it first.")


def _does_not_fit(services: Services, form: DraftForm) -> Result | None:
    """The prompt's tokens and the window, if no room is left for an answer; else None."""
    model = services.models.model()
    tokens = _prompt_tokens(services, model, form)
    return {"tokens": tokens, "window": model.window} if tokens >= model.window else None


def _new_conversation(services: Services, form: QuestionForm) -> str:
    title = title_of(form.text, fallback=form.files[0].name if form.files else "")
    return services.store.create_conversation(title).id


def _start(services: Services, question: str, chains: int | None) -> None:
    settings = load_settings(services.store)
    services.runs.start(
        services.models.model(),
        question,
        settings.options(),
        chains=chains or settings.chains,
        system=settings.system,
    )


def _prompt_tokens(services: Services, model: Magistral, form: DraftForm) -> int:
    settings = load_settings(services.store)
    messages = _history(services, form.parent, settings)
    text = with_attachments(form.text, _attachments(form.files)) or " "
    return model.prompt_tokens([*messages, Message("user", text)], settings.options())


def _history(services: Services, parent: str | None, settings: Settings) -> list[Message]:
    if parent is not None:
        return conversation_messages(services.store, parent, system=settings.system)
    return [Message("system", settings.system)] if settings.system.strip() else []


def _attachments(files: Sequence[AttachedFile]) -> tuple[Attachment, ...]:
    return tuple(Attachment(safe_name(file.name), file.text, file.tokens) for file in files)
