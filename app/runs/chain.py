"""One chain of a run: the events of one answer, added up as they come."""

from collections import deque
from collections.abc import Callable

from magistral_mlx.app.runs.snapshot import ChainSnapshot, ChainState
from magistral_mlx.app.store.records import Ending, Figures
from magistral_mlx.events import (
    AnswerText,
    Event,
    Failed,
    Finished,
    PrefillProgress,
    ReasoningText,
)

RATE_SECONDS = 3.0
"""Over how long the speed shown while it runs is measured."""

_SAMPLE_SECONDS = 0.25


class Chain:
    """What has come of one answer so far. Its owner lets one thread in at a time."""

    def __init__(
        self, message: str, *, thinking_budget: int | None, clock: Callable[[], float]
    ) -> None:
        """message: id of the stored message that it is saved as; clock: seconds."""
        self.message = message
        self._thinking_budget = thinking_budget
        self._clock = clock
        self._begun = clock()
        self._reasoning = _GrowingText()
        self._answer = _GrowingText()
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
        """Whether nothing more comes."""
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
        """End with an error, unless it has ended already."""
        if self._end is None:
            self._error, self._end = event.message, self._clock()

    def note_error(self, message: str) -> None:
        """Something to show beside the answer: that it could not be saved, say."""
        self._error = self._error or message

    def snapshot(self) -> ChainSnapshot:
        """All of it as it is now."""
        figures = self.figures()
        return ChainSnapshot(
            message=self.message,
            state=self._state(),
            reasoning=self._reasoning.text(),
            answer=self._answer.text(),
            prefill_done=self._prefill.done,
            prefill_total=self._prefill.total,
            cached_tokens=figures.cached_tokens if self._prefill.total else None,
            tokens=figures.completion_tokens,
            reasoning_tokens=figures.reasoning_tokens,
            seconds_to_first_token=figures.seconds_to_first_token,
            tokens_per_second=figures.tokens_per_second,
            seconds=figures.total_seconds or 0.0,
            reasoning_seconds=figures.reasoning_seconds or 0.0,
            ending=self.ending(),
            reasoning_closed_by_force=figures.reasoning_closed_by_force,
            error=self._error,
        )

    def ending(self) -> Ending | None:
        """Why it ended; None while it goes on."""
        if self._finished is not None:
            return self._finished.reason
        return "failed" if self.ended else None

    def figures(self) -> Figures:
        """Tokens and seconds: the engine's own once it has ended, else counted here."""
        usage = self._finished.usage if self._finished else None
        timings = self._finished.timings if self._finished else None
        first = self._first_text and self._first_text - self._begun
        return Figures(
            prompt_tokens=usage.prompt_tokens if usage else self._prefill.total,
            cached_tokens=usage.cached_tokens if usage else self._prefill.cached,
            completion_tokens=usage.completion_tokens if usage else self._tokens,
            reasoning_tokens=usage.reasoning_tokens if usage else self._reasoning_tokens,
            seconds_to_first_token=(timings and timings.seconds_to_first_token) or first,
            reasoning_seconds=self._reasoning_seconds(),
            total_seconds=(self._end or self._clock()) - self._begun,
            tokens_per_second=(
                timings.decode_tokens_per_second if timings else self._rate.value(self._clock())
            ),
            thinking_budget=self._thinking_budget,
            reasoning_closed_by_force=bool(
                self._finished and self._finished.reasoning_closed_by_force
            ),
            error=self._error,
        )

    def saved_text(self) -> tuple[str, str | None]:
        """The answer, and the reasoning where there is any."""
        return self._answer.text(), self._reasoning.text() or None

    def _take_text(self, event: ReasoningText | AnswerText) -> None:
        now = self._clock()
        # Nearly every token is one piece of text; the engine's own count comes with the end.
        self._tokens += 1
        self._first_text = self._first_text or now
        if isinstance(event, ReasoningText):
            self._reasoning_tokens += 1
            self._reasoning.append(event.text)
        else:
            self._first_answer = self._first_answer or now
            self._answer.append(event.text)
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

    def _reasoning_seconds(self) -> float | None:
        if self._first_text is None or not self._reasoning_tokens:
            return None
        return (self._first_answer or self._end or self._clock()) - self._first_text


class _GrowingText:
    """A text that grows piece by piece and is read now and then."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def append(self, piece: str) -> None:
        self._parts.append(piece)

    def text(self) -> str:
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""


class _Rate:
    """Tokens a second over the last seconds, from a few samples."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def count(self, now: float, tokens: int) -> None:
        self._tokens = tokens
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, tokens))
        # One sample older than the span stays, to measure from.
        while len(self._samples) > 2 and now - self._samples[1][0] > RATE_SECONDS:
            self._samples.popleft()

    def value(self, now: float) -> float | None:
        if not self._samples:
            return None
        begun, tokens = self._samples[0]
        return (self._tokens - tokens) / (now - begun) if now - begun > _SAMPLE_SECONDS else None
