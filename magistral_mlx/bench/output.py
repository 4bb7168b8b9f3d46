"""When the tokens of one output came, whoever generated it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from magistral_mlx.events import Finished

LEAST_TOGETHER = 8
"""Tokens of every stream that a rate of all is taken from."""


@dataclass(slots=True)
class Output:
    """One stream. Times are those of time.perf_counter.

    marks: a time, and how many tokens there were by then; most tokens have one of their own.
    end, kv_bytes: its last event, and the bytes of its own cache by then, where it has one (ours).
    """

    submitted: float
    tokens: list[int] = field(default_factory=list)
    marks: list[tuple[float, int]] = field(default_factory=list)
    end: Finished | None = None
    kv_bytes: int = 0
    kv_tokens: int = 0

    @property
    def first(self) -> float:
        """When the first token came."""
        return self.marks[0][0]

    @property
    def last(self) -> float:
        """When the last token came."""
        return self.marks[-1][0]

    @property
    def decode_rate(self) -> float:
        """Tokens a second, from the first mark to the last."""
        (start, before), (stop, after) = self.marks[0], self.marks[-1]
        return (after - before) / (stop - start)

    def count(self, start: float, stop: float) -> int:
        """Tokens after `start` and up to `stop`."""
        return self._known_at(stop) - self._known_at(start)

    def gaps(self, start: float, stop: float) -> list[float]:
        """Seconds between tokens that follow each other, as far as they touch that time.

        A token whose text is held back for the next one's has no mark: both took half of it.
        """
        return [
            (later - sooner) / (after - before)
            for (sooner, before), (later, after) in pairwise(self.marks)
            if later > start and sooner < stop
        ]

    def _known_at(self, time: float) -> int:
        return max((known for when, known in self.marks if when <= time), default=0)


def joint_decode_rate(outputs: Sequence[Output]) -> float:
    """Tokens a second of all streams while every one of them decodes.

    Raises ValueError when there is hardly such a time: then the outputs were too short.
    """
    start = max(output.first for output in outputs)
    stop = min(output.last for output in outputs)
    if min(output.count(start, stop) for output in outputs) < LEAST_TOGETHER:
        raise ValueError("The streams hardly decoded together: give them more tokens.")
    return sum(output.count(start, stop) for output in outputs) / (stop - start)


def decode_rate_if_any(outputs: Sequence[Output]) -> float | None:
    """The same, or None when there is hardly such a time."""
    try:
        return joint_decode_rate(outputs)
    except ValueError:
        return None


def whole_rate(outputs: Sequence[Output]) -> float:
    """Tokens a second from the first submission to the last token: prompts' time included."""
    start = min(output.submitted for output in outputs)
    stop = max(output.last for output in outputs)
    return sum(len(output.tokens) for output in outputs) / (stop - start)
