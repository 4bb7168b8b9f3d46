"""A conversation as the page shows it: questions, and the answers below each of them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TypedDict

from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.rendering.markdown import MarkdownRenderer
from magistral_mlx.app.runs.votes import vote
from magistral_mlx.app.store.branches import Turn, shown_path
from magistral_mlx.app.store.records import StoredMessage


class Siblings(TypedDict):
    """Where a message stands among those that could be in its place; ids of its neighbours."""

    index: int
    count: int
    previous: str | None
    next: str | None


class QuestionView(TypedDict):
    """What the user asked."""

    id: str
    parent: str | None
    text: str
    attachments: list[dict[str, object]]
    siblings: Siblings


class ChainView(TypedDict):
    """One answer with its reasoning, as HTML; `text` is the answer as it was written."""

    message: str
    reasoning: str
    answer: str
    text: str
    ending: str | None
    model: str | None
    figures: dict[str, object] | None


class ReplyView(TypedDict):
    """What answers a question: one chain, or several that thought in parallel.

    agree: indices of the chains that agree, where there are several.
    """

    message: str
    chains: list[ChainView]
    siblings: Siblings
    agree: list[int]


class Exchange(TypedDict):
    """A question and its reply, if it has one."""

    question: QuestionView
    reply: ReplyView | None


class ConversationView(TypedDict):
    """The path shown. `running`: the id of the question that is being answered."""

    id: str
    title: str
    pinned: bool
    exchanges: list[Exchange]
    running: str | None


def conversation_view(services: Services, conversation: str) -> ConversationView:
    """Raises UserError when it is gone."""
    run = services.runs.of(conversation)
    record = services.store.conversation(conversation)
    exchanges: list[Exchange] = []
    for turn in shown_path(services.store, conversation):
        if turn.message.role == "user":
            exchanges.append(Exchange(question=_question(turn), reply=None))
        elif exchanges:
            exchanges[-1]["reply"] = _reply(turn, services.renderer)
    return ConversationView(
        id=record.id,
        title=record.title,
        pinned=record.pinned,
        exchanges=exchanges,
        running=run.snapshot().question if run is not None else None,
    )


def chain_view(message: StoredMessage, renderer: MarkdownRenderer) -> ChainView:
    """One stored answer."""
    return ChainView(
        message=message.id,
        reasoning=renderer.html(message.reasoning or ""),
        answer=renderer.html(message.content),
        text=message.content,
        ending=message.ending,
        model=message.model,
        figures=asdict(message.figures) if message.figures is not None else None,
    )


def _question(turn: Turn) -> QuestionView:
    message = turn.message
    return QuestionView(
        id=message.id,
        parent=message.parent,
        text=message.content,
        attachments=[{"name": file.name, "tokens": file.tokens} for file in message.attachments],
        siblings=_siblings(turn),
    )


def _reply(turn: Turn, renderer: MarkdownRenderer) -> ReplyView:
    chains = turn.chains or (turn.message,)
    several = len(chains) > 1
    return ReplyView(
        message=turn.message.id,
        chains=[chain_view(chain, renderer) for chain in chains],
        siblings=_siblings(turn),
        agree=list(vote([chain.content for chain in chains]).agree) if several else [],
    )


def _siblings(turn: Turn) -> Siblings:
    """The chains of one run count as one: they are shown together."""
    units = _units(turn.siblings)
    index = next(i for i, unit in enumerate(units) if turn.message in unit)
    return Siblings(
        index=index,
        count=len(units),
        previous=units[index - 1][0].id if index else None,
        next=units[index + 1][0].id if index + 1 < len(units) else None,
    )


def _units(messages: Sequence[StoredMessage]) -> list[list[StoredMessage]]:
    units: dict[str, list[StoredMessage]] = {}
    for message in messages:
        units.setdefault(message.group or message.id, []).append(message)
    return list(units.values())
