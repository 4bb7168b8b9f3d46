"""A model whose replies are written down, for tests of what is shown."""

from collections.abc import Generator, Sequence

from magistral_mlx import GenerationOptions
from magistral_mlx.events import (
    AnswerText,
    Event,
    Finished,
    FinishReason,
    PrefillProgress,
    ReasoningText,
    Timings,
    Usage,
)
from magistral_mlx.text.conversation import Message

TIMINGS = Timings(
    seconds_to_first_token=0.5,
    prefill_tokens_per_second=200.0,
    decode_tokens_per_second=41.23,
    total_seconds=2.0,
    peak_memory_bytes=123,
)


Script = Sequence[Event | BaseException]


class ScriptedModel:
    """Replies with the scripts in turn, and remembers what it was asked.

    An exception in a script is raised at its place, as Ctrl-C is.
    """

    name = "scripted"
    window = 1_000

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.asked: list[tuple[list[Message], GenerationOptions]] = []
        self.closed = 0

    def stream(
        self, messages: Sequence[Message], options: GenerationOptions
    ) -> Generator[Event, None, None]:
        self.asked.append((list(messages), options))
        return self._events(self._scripts.pop(0))

    def prompt_tokens(self, messages: Sequence[Message], options: GenerationOptions) -> int:
        return sum(len(message.content.split()) for message in messages)

    def _events(self, script: Script) -> Generator[Event, None, None]:
        try:
            for event in script:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self.closed += 1


def finished(
    reason: FinishReason = "stop", *, forced: bool = False, completion_tokens: int = 152
) -> Finished:
    usage = Usage(
        prompt_tokens=190,
        completion_tokens=completion_tokens,
        reasoning_tokens=96,
        cached_tokens=0,
    )
    return Finished(reason, usage, TIMINGS, forced)


def reply(
    reasoning: str, answer: str, *, reason: FinishReason = "stop", forced: bool = False
) -> list[Event]:
    """A whole reply, its texts in pieces of three characters."""
    return [
        PrefillProgress(190, 190),
        *(ReasoningText(reasoning[i : i + 3]) for i in range(0, len(reasoning), 3)),
        *(AnswerText(answer[i : i + 3]) for i in range(0, len(answer), 3)),
        finished(reason, forced=forced),
    ]
