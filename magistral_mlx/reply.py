"""A whole reply, built from the events of an output."""

from collections.abc import Iterable
from dataclasses import dataclass

from magistral_mlx.errors import EngineError
from magistral_mlx.events import (
    AnswerText,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningText,
    Timings,
    TokenLogprob,
    ToolCallEvent,
    Usage,
)
from magistral_mlx.text.conversation import ToolCall
from magistral_mlx.text.tool_calls import ToolCallCollector


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole output: the reasoning, the answer, and how it ended.

    logprobs: of the answer's tokens, if the options request them.
    stop_string: the stop string that ended the answer, if one did.
    tool_calls: the calls that the model makes; send each result in a message of role "tool".
    """

    reasoning: str
    answer: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    reasoning_closed_by_force: bool
    logprobs: tuple[TokenLogprob, ...] = ()
    stop_string: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def end(self) -> Finished:
        """The event that ended the output."""
        return Finished(
            self.finish_reason,
            self.usage,
            self.timings,
            self.reasoning_closed_by_force,
            self.stop_string,
        )


class ReplyBuilder:
    """Collects the events of one output. `end` is its last event, None before that."""

    def __init__(self) -> None:
        self.end: Finished | None = None
        self._reasoning: list[str] = []
        self._answer: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._calls = ToolCallCollector()

    @property
    def has_calls(self) -> bool:
        """Whether a tool call is complete."""
        return bool(self._calls.calls)

    def add(self, event: Event) -> None:
        """Add the next event."""
        if isinstance(event, ReasoningText):
            self._reasoning.append(event.text)
        elif isinstance(event, AnswerText):
            self._answer.append(event.text)
            self._logprobs += event.logprobs
        elif isinstance(event, ToolCallEvent):
            self._calls.add(event)
        elif isinstance(event, Finished):
            self.end = event

    def reply(self) -> Reply:
        """The whole reply; call it after the end."""
        assert self.end is not None
        return Reply(
            "".join(self._reasoning),
            "".join(self._answer),
            self.end.reason,
            self.end.usage,
            self.end.timings,
            self.end.reasoning_closed_by_force,
            tuple(self._logprobs),
            self.end.stop_string,
            self._calls.calls,
        )


def collect_reply(events: Iterable[Event]) -> Reply:
    """Wait for the last event. Raises EngineError if the engine fails before it."""
    builder = ReplyBuilder()
    for event in events:
        if isinstance(event, Failed):
            raise EngineError(event.message)
        builder.add(event)
    if builder.end is None:
        raise EngineError("The engine stopped unexpectedly: ask again.")
    return builder.reply()
