"""The conversation that a tab shows: its branches, and the answer that is being written in it."""

from pydantic import Field

from magistral_mlx.app.panels.calls import (
    ConversationForm,
    MessageForm,
    Result,
    ServerCall,
    server_call,
)
from magistral_mlx.app.panels.conversation import chain_view, conversation_view
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.store.branches import switch


class Watching(ConversationForm):
    """What a tab has seen of a running answer."""

    version: int = 0


class AnswerNow(ConversationForm):
    """The chain whose reasoning is enough; None: all of them."""

    chain: int | None = Field(default=None, ge=0, le=7)


def conversation_calls(services: Services) -> list[ServerCall]:
    """What the turns ask for."""

    def show(form: ConversationForm) -> Result:
        return conversation_view(services, form.conversation)

    def show_branch(form: MessageForm) -> Result:
        switch(services.store, form.message)
        return conversation_view(services, services.store.message(form.message).conversation)

    def answer(form: MessageForm) -> Result:
        return chain_view(services.store.message(form.message), services.renderer)

    def watch(form: Watching) -> Result:
        return {"patch": services.live.next(form.conversation, form.version)}

    def stop(form: ConversationForm) -> Result:
        run = services.runs.of(form.conversation)
        if run is not None:
            run.stop()
        return {}

    def answer_now(form: AnswerNow) -> Result:
        run = services.runs.of(form.conversation)
        if run is not None:
            run.answer_now(form.chain)
        return {}

    return [
        server_call("show", ConversationForm, show),
        server_call("show_branch", MessageForm, show_branch),
        server_call("answer", MessageForm, answer),
        server_call("watch", Watching, watch),
        server_call("stop", ConversationForm, stop),
        server_call("answer_now", AnswerNow, answer_now),
    ]
