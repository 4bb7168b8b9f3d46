"""Whole outputs, put together from their events."""

from dataclasses import dataclass

from magistral_mlx.events import (
    AnswerText,
    Event,
    Finished,
    ReasoningText,
    TokenLogprob,
    ToolCallEvent,
)
from magistral_mlx.spec import THINK_CLOSE, THINK_OPEN
from magistral_mlx.text.conversation import ToolCall
from magistral_mlx.text.tool_calls import ToolCallCollector


@dataclass(frozen=True, slots=True)
class Output:
    """One answer with everything that belongs to it."""

    reasoning: str
    answer: str
    tool_calls: tuple[ToolCall, ...]
    logprobs: tuple[TokenLogprob, ...]
    end: Finished

    @property
    def raw(self) -> str:
        """Reasoning and answer as one text, as the model writes it."""
        if not self.reasoning:
            return self.answer
        return f"{raw_opening()}{self.reasoning}{raw_closing()}{self.answer}"


class OutputBuilder:
    """Takes the events of one answer."""

    def __init__(self) -> None:
        self.end: Finished | None = None
        self._reasoning: list[str] = []
        self._answer: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._calls = ToolCallCollector()

    def add(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, ReasoningText):
            self._reasoning.append(event.text)
        elif isinstance(event, AnswerText):
            self._answer.append(event.text)
            self._logprobs += event.logprobs
        elif isinstance(event, ToolCallEvent):
            self._calls.add(event)
        elif isinstance(event, Finished):
            self.end = event

    @property
    def called(self) -> bool:
        """Whether a tool is to be called."""
        return bool(self._calls.calls)

    def output(self) -> Output:
        """What has come; only after its end."""
        assert self.end is not None
        return Output(
            "".join(self._reasoning),
            "".join(self._answer),
            self._calls.calls,
            tuple(self._logprobs),
            self.end,
        )


def raw_opening() -> str:
    """What reasoning opens with where it is not told apart."""
    return f"{THINK_OPEN}\n"


def raw_closing() -> str:
    """What closes it."""
    return f"\n{THINK_CLOSE}\n"
