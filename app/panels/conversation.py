"""A conversation as the page shows it: questions, answers, branches, and the running answer.

assets/scripts/types.d.ts has the types of the results.
"""

from collections.abc import Sequence
from dataclasses import asdict

from pydantic import Field

from magistral_mlx.app.panels.calls import (
    ConversationForm,
    MessageForm,
    Result,
    ServerCall,
    server_calls,
)
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.rendering.markdown import MarkdownRenderer
from magistral_mlx.app.runs.votes import vote
from magistral_mlx.app.store.branches import Turn, shown_path, switch
from magistral_mlx.app.store.records import StoredMessage


class WatchForm(ConversationForm):
    """The version of a running answer that a tab has seen."""

    version: int = 0


class AnswerNowForm(ConversationForm):
    """The chain whose reasoning is closed; None: all of them."""

    chain: int | None = Field(default=None, ge=0, le=7)


def conversation_calls(services: Services) -> list[ServerCall]:
    """The calls of the turns."""

    def show(form: ConversationForm) -> Result:
        return conversation_view(services, form.conversation)

    def show_branch(form: MessageForm) -> Result:
        switch(services.store, form.message)
        return conversation_view(services, services.store.message(form.message).conversation)

    def answer(form: MessageForm) -> Result:
        return chain_view(services.store.message(form.message), services.renderer)

    def watch(form: WatchForm) -> Result:
        return {"patch": services.live.next(form.conversation, form.version)}

    def stop(form: ConversationForm) -> Result:
        run = services.runs.of(form.conversation)
        if run is not None:
            run.stop()
        return {}

    def answer_now(form: AnswerNowForm) -> Result:
        run = services.runs.of(form.conversation)
        if run is not None:
            run.answer_now(form.chain)
        return {}

    return server_calls(show, show_branch, answer, watch, stop, answer_now)


def conversation_view(services: Services, conversation: str) -> Result:
    """The path that is shown. Raises UserError if the conversation is gone."""
    run = services.runs.of(conversation)
    record = services.store.conversation(conversation)
    exchanges: list[dict[str, Result | None]] = []
    for turn in shown_path(services.store, conversation):
        if turn.message.role == "user":
            exchanges.append({"question": _question(turn), "reply": None})
        elif exchanges:
            exchanges[-1]["reply"] = _reply(turn, services.renderer)
    return {
        "id": record.id,
        "title": record.title,
        "pinned": record.pinned,
        "exchanges": exchanges,
        "running": run.snapshot().question if run is not None else None,
    }


def chain_view(message: StoredMessage, renderer: MarkdownRenderer) -> Result:
    """One stored answer; `text` is its Markdown, the rest is HTML."""
    return {
        "message": message.id,
        "reasoning": renderer.html(message.reasoning or ""),
        "answer": renderer.html(message.content),
        "text": message.content,
        "ending": message.ending,
        "model": message.model,
        "figures": asdict(message.figures) if message.figures is not None else None,
    }


def _question(turn: Turn) -> Result:
    message = turn.message
    return {
        "id": message.id,
        "parent": message.parent,
        "text": message.content,
        "attachments": [{"name": file.name, "tokens": file.tokens} for file in message.attachments],
        "siblings": _siblings(turn),
    }


def _reply(turn: Turn, renderer: MarkdownRenderer) -> Result:
    chains = turn.chains or (turn.message,)
    several = len(chains) > 1
    return {
        "message": turn.message.id,
        "chains": [chain_view(chain, renderer) for chain in chains],
        "siblings": _siblings(turn),
        "agree": list(vote([chain.content for chain in chains]).agree) if several else [],
    }


def _siblings(turn: Turn) -> Result:
    """The chains of one run count as one, because they are shown together."""
    units = _units(turn.siblings)
    index = next(i for i, unit in enumerate(units) if turn.message in unit)
    return {
        "index": index,
        "count": len(units),
        "previous": units[index - 1][0].id if index else None,
        "next": units[index + 1][0].id if index + 1 < len(units) else None,
    }


def _units(messages: Sequence[StoredMessage]) -> list[list[StoredMessage]]:
    units: dict[str, list[StoredMessage]] = {}
    for message in messages:
        units.setdefault(message.group or message.id, []).append(message)
    return list(units.values())
