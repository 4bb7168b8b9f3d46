"""A reply: its events shown as they arrive, and what they came to."""

from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Protocol

from magistral_mlx.errors import EngineError
from magistral_mlx.events import (
    AnswerText,
    Failed,
    Finished,
    PrefillProgress,
    ReasoningText,
)
from magistral_mlx.terminal.model_protocol import Events


@dataclass(frozen=True, slots=True)
class ShownReply:
    """What arrived. finished is None when Ctrl-C stopped the reply."""

    reasoning: str
    answer: str
    finished: Finished | None


class ReplyView(AbstractContextManager[object], Protocol):
    """Where a reply is shown. Leaving the context completes what is half shown."""

    def prefill(self, progress: PrefillProgress) -> None: ...

    def reasoning(self, text: str) -> None: ...

    def answer(self, text: str) -> None: ...


def show_reply(events: Events, view: ReplyView) -> ShownReply:
    """Show events until the last one. Ctrl-C cancels the request and keeps what has arrived.

    Raises EngineError when the engine gives the request up.
    """
    reasoning: list[str] = []
    answer: list[str] = []
    finished: Finished | None = None
    try:
        with closing(events), view:
            for event in events:
                match event:
                    case PrefillProgress():
                        view.prefill(event)
                    case ReasoningText(text):
                        reasoning.append(text)
                        view.reasoning(text)
                    case AnswerText(text):
                        answer.append(text)
                        view.answer(text)
                    case Finished():
                        finished = event
                    case Failed(message):
                        raise EngineError(message)
    except KeyboardInterrupt:
        finished = None
    return ShownReply("".join(reasoning), "".join(answer), finished)
