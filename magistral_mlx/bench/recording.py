"""When the tokens of an output arrive, from our engine or another."""

import collections.abc
import time
from dataclasses import dataclass, field
from itertools import pairwise
from queue import SimpleQueue

from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.errors import EngineError
from magistral_mlx.events import AnswerText, Event, Failed, Finished, ReasoningText
from magistral_mlx.kv.cache import KVPrecision
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams

LEAST_TOGETHER = 8
"""Tokens of every stream that a joint decode rate needs."""


@dataclass(slots=True)
class TimedOutput:
    """One stream. Times are those of time.perf_counter.

    marks: a time, and the number of tokens by then; most tokens have their own mark.
    end: our engine's last event. kv_bytes, kv_tokens: the size of the KV cache then.
    """

    submitted: float = field(default_factory=time.perf_counter)
    tokens: list[int] = field(default_factory=list)
    marks: list[tuple[float, int]] = field(default_factory=list)
    end: Finished | None = None
    kv_bytes: int = 0
    kv_tokens: int = 0

    def add(self, token: int) -> None:
        """Add a token that has just arrived."""
        self.tokens.append(token)
        self.marks.append((time.perf_counter(), len(self.tokens)))

    @property
    def first(self) -> float:
        """Time of the first token."""
        return self.marks[0][0]

    @property
    def last(self) -> float:
        """Time of the last token."""
        return self.marks[-1][0]

    @property
    def wait(self) -> float:
        """Seconds from submission to the first token."""
        return self.first - self.submitted

    @property
    def decode_rate(self) -> float:
        """Tokens per second, from the first mark to the last."""
        (start, before), (stop, after) = self.marks[0], self.marks[-1]
        return (after - before) / (stop - start)

    def count(self, start: float, stop: float) -> int:
        """Tokens after `start` and up to `stop`."""
        return self._known_at(stop) - self._known_at(start)

    def gaps(self, start: float, stop: float) -> list[float]:
        """Seconds between consecutive tokens, for all gaps that overlap the given time.

        A token without a mark, because its text was held back, shares the gap of the next one.
        """
        return [
            (later - sooner) / (after - before)
            for (sooner, before), (later, after) in pairwise(self.marks)
            if later > start and sooner < stop
        ]

    def _known_at(self, time: float) -> int:
        return max((known for when, known in self.marks if when <= time), default=0)


def joint_decode_rate(outputs: collections.abc.Sequence[TimedOutput]) -> float | None:
    """Tokens per second of all streams while all of them decode; None if that time is too short."""
    start = max(output.first for output in outputs)
    stop = min(output.last for output in outputs)
    counts = [output.count(start, stop) for output in outputs]
    return sum(counts) / (stop - start) if min(counts) >= LEAST_TOGETHER else None


class Recording:
    """A request to our engine, recorded on the emitter's thread."""

    def __init__(
        self,
        engine: Engine,
        prompt: collections.abc.Sequence[int],
        tokens: int,
        *,
        precision: KVPrecision | None = None,
    ) -> None:
        """Submit it: greedy, exactly `tokens` tokens."""
        self._output = TimedOutput()
        self._engine = engine
        self._sequence: Sequence | None = None
        self._ended: SimpleQueue[Event] = SimpleQueue()
        self._marks: SimpleQueue[int] = SimpleQueue()
        request = Request(
            tuple(prompt),
            state="answer",
            options=OutputOptions(
                sampling=SamplingParams(temperature=0),
                max_tokens=tokens,
                stop_repetition=False,
                ignore_eos=True,
                kv_precision=precision,
            ),
        )
        self._sequence = engine.submit_to(request, self._note)

    def wait(self) -> TimedOutput:
        """The whole output. Raises EngineError when the engine failed."""
        end = self._ended.get()
        if isinstance(end, Failed):
            raise EngineError(end.message)
        assert self._sequence is not None
        self._output.tokens = self._sequence.ids[len(self._sequence.request.prompt) :]
        return self._output

    def wait_for(self, tokens: int) -> None:
        """Return when that many tokens have arrived."""
        while self._marks.get() < tokens:
            pass

    def cancel(self) -> None:
        """End it early."""
        assert self._sequence is not None
        self._engine.cancel(self._sequence)

    def _note(self, event: Event) -> None:
        """Count tokens, not events: text may be held back until more tokens are known."""
        now, sequence = time.perf_counter(), self._sequence
        if sequence is not None and isinstance(event, AnswerText | ReasoningText | Finished):
            known = len(sequence.ids) - len(sequence.request.prompt)
            if not self._output.marks or known > self._output.marks[-1][1]:
                self._output.marks.append((now, known))
            self._marks.put(known)
        if sequence is not None:
            self._output.kv_tokens, self._output.kv_bytes = sequence.kv_at_end
        if isinstance(event, Finished):
            self._output.end = event
        if isinstance(event, Finished | Failed):
            self._ended.put(event)


def run_ours(
    engine: Engine,
    prompts: collections.abc.Sequence[collections.abc.Sequence[int]],
    tokens: int,
    *,
    precision: KVPrecision | None = None,
) -> list[TimedOutput]:
    """Submit all prompts at once; wait for all outputs."""
    recordings = [Recording(engine, prompt, tokens, precision=precision) for prompt in prompts]
    return [recording.wait() for recording in recordings]
