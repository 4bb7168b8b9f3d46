"""A whole reply, made of the events of an answer."""

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
    """A whole output: what the model thought, what it answers, and how it went.

    logprobs: of the answer's tokens, where they were asked for.
    stop_string: the one that ended the answer, where one did.
    tool_calls: what the model asks to have called; send the results with a message of role tool.
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


def collect_reply(events: Iterable[Event]) -> Reply:
    """Wait for the last event. Raises EngineError when the engine failed before it."""
    reasoning: list[str] = []
    answer: list[str] = []
    logprobs: list[TokenLogprob] = []
    calls = ToolCallCollector()
    for event in events:
        if isinstance(event, ReasoningText):
            reasoning.append(event.text)
        elif isinstance(event, AnswerText):
            answer.append(event.text)
            logprobs += event.logprobs
        elif isinstance(event, ToolCallEvent):
            calls.add(event)
        elif isinstance(event, Failed):
            raise EngineError(event.message)
        elif isinstance(event, Finished):
            return Reply(
                "".join(reasoning),
                "".join(answer),
                event.reason,
                event.usage,
                event.timings,
                event.reasoning_closed_by_force,
                tuple(logprobs),
                event.stop_string,
                calls.calls,
            )
    raise EngineError("The engine ended without an answer.")
