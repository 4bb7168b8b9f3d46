"""One chain of a run: the events of one answer, added up as they come."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import StringIO
from typing import Literal

from magistral_mlx.app.store.records import Ending, Figures
from magistral_mlx.events import (
    AnswerText,
    Event,
    Failed,
    Finished,
    PrefillProgress,
    ReasoningText,
)

ChainState = Literal["queued", "prefill", "reasoning", "answer", "done", "failed", "stopped"]
ENDED: frozenset[ChainState] = frozenset({"done", "failed", "stopped"})

RATE_SECONDS = 3.0
"""The speed shown during a run is that of the last seconds."""

_SAMPLE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class ChainSnapshot:
    """One chain at one moment.

    message: id of the stored message that it is saved as.
    prefill: tokens prefilled, prompt tokens, and tokens found in the cache; zeros while queued.
    figures: exact once the chain has ended. Before that, tokens are counted by pieces of text,
        and the speed is that of the last seconds.
    """

    message: str
    state: ChainState
    reasoning: str
    answer: str
    prefill: PrefillProgress
    ending: Ending | None
    figures: Figures

    @property
    def ended(self) -> bool:
        """Whether no more events follow."""
        return self.state in ENDED


class Chain:
    """One answer so far. Not thread-safe: its owner holds a lock."""

    def __init__(
        self, message: str, *, thinking_budget: int | None, clock: Callable[[], float]
    ) -> None:
        """message: id of the stored message that it is saved as; clock: seconds."""
        self.message = message
        self._thinking_budget = thinking_budget
        self._clock = clock
        self._begun = clock()
        self._reasoning = StringIO()
        self._answer = StringIO()
        self._prefill = PrefillProgress(0, 0)
        self._tokens = 0
        self._reasoning_tokens = 0
        self._first_text: float | None = None
        self._first_answer: float | None = None
        self._rate = _Rate()
        self._end: float | None = None
        self._finished: Finished | None = None
        self._error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether no more events follow."""
        return self._end is not None

    def take(self, event: Event) -> None:
        """Add the next event."""
        if isinstance(event, ReasoningText | AnswerText):
            self._take_text(event)
        elif isinstance(event, PrefillProgress):
            self._prefill = event
        elif isinstance(event, Finished):
            self._finished, self._end = event, self._clock()
        elif isinstance(event, Failed):
            self.fail(event)

    def fail(self, event: Failed) -> None:
        """End with an error; does nothing if the chain has ended already."""
        if not self.ended:
            self._error, self._end = event.message, self._clock()

    def note_error(self, message: str) -> None:
        """Show an error beside the answer, for example that it could not be saved."""
        self._error = self._error or message

    def snapshot(self) -> ChainSnapshot:
        """The chain as it is now."""
        return ChainSnapshot(
            message=self.message,
            state=self._state(),
            reasoning=self._reasoning.getvalue(),
            answer=self._answer.getvalue(),
            prefill=self._prefill,
            ending=self._ending(),
            figures=self._figures(),
        )

    def _take_text(self, event: ReasoningText | AnswerText) -> None:
        now = self._clock()
        # Nearly every token is one piece of text; the exact count comes with the end.
        self._tokens += 1
        self._first_text = self._first_text or now
        if isinstance(event, ReasoningText):
            self._reasoning_tokens += 1
            self._reasoning.write(event.text)
        else:
            self._first_answer = self._first_answer or now
            self._answer.write(event.text)
        self._rate.count(now, self._tokens)

    def _state(self) -> ChainState:
        if self._finished is not None:
            return "stopped" if self._finished.reason == "cancelled" else "done"
        if self.ended:
            return "failed"
        if self._first_answer is not None:
            return "answer"
        if self._first_text is not None:
            return "reasoning"
        return "prefill" if self._prefill.total else "queued"

    def _ending(self) -> Ending | None:
        if self._finished is not None:
            return self._finished.reason
        return "failed" if self.ended else None

    def _figures(self) -> Figures:
        now = self._end or self._clock()
        first_text, reasoning_seconds = self._first_text, None
        if first_text is not None and self._reasoning_tokens:
            reasoning_seconds = (self._first_answer or now) - first_text
        counted = Figures(
            prompt_tokens=self._prefill.total,
            cached_tokens=self._prefill.cached,
            completion_tokens=self._tokens,
            reasoning_tokens=self._reasoning_tokens,
            seconds_to_first_token=None if first_text is None else first_text - self._begun,
            reasoning_seconds=reasoning_seconds,
            total_seconds=now - self._begun,
            tokens_per_second=self._rate.value(now),
            thinking_budget=self._thinking_budget,
            error=self._error,
        )
        return counted if self._finished is None else _exact(counted, self._finished)


def _exact(counted: Figures, finished: Finished) -> Figures:
    usage, timings = finished.usage, finished.timings
    return replace(
        counted,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        seconds_to_first_token=timings.seconds_to_first_token or counted.seconds_to_first_token,
        tokens_per_second=timings.decode_tokens_per_second,
        reasoning_closed_by_force=finished.reasoning_closed_by_force,
    )


class _Rate:
    """Tokens per second over the last seconds, from a few samples."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def count(self, now: float, tokens: int) -> None:
        self._tokens = tokens
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, tokens))
        # One sample older than RATE_SECONDS stays, to measure from.
        while len(self._samples) > 2 and now - self._samples[1][0] > RATE_SECONDS:
            self._samples.popleft()

    def value(self, now: float) -> float | None:
        if not self._samples:
            return None
        begun, tokens = self._samples[0]
        return (self._tokens - tokens) / (now - begun) if now - begun > _SAMPLE_SECONDS else None
