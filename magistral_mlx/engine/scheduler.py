"""Which sequences advance in the next step, and by how many tokens."""

from dataclasses import dataclass

from magistral_mlx.engine.kv_budget import KVBudget
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.engine.step_costs import StepCosts
from magistral_mlx.kv.cache import BLOCK, KVPrecision
from magistral_mlx.options import PRIORITIES

FEW = 8
"""Known tokens that count as decoding, so that forced tokens are not delayed as a prompt is."""

IDLE_TOKENS = 64
"""Tokens of an idle prompt in a step: the longest that an arriving request waits."""

MAX_IDLE = 8
"""Most idle prompts; beyond that, the oldest are dropped."""

WORTH_WAITING = 64
"""A prompt that shares this many tokens with one being prefilled waits for their KV."""


@dataclass(frozen=True, slots=True)
class ScheduledSegment:
    """One sequence's part of a step.

    tokens: known tokens to run; 0: the token drawn in the step before, which is not read yet.
    sample: whether to draw a token after them.
    """

    sequence: Sequence
    tokens: int
    sample: bool


class Scheduler:
    """Waiting, running and idle sequences, by priority and then in order of arrival."""

    def __init__(self, *, max_running: int, prefill_tokens: int, kv: KVBudget) -> None:
        """Run at most `max_running` sequences; prefill at most `prefill_tokens` in a step."""
        self._max_running = max_running
        self.prefill_tokens = prefill_tokens
        self.kv = kv
        self.costs: StepCosts | None = None
        """If known, prompts are cut so that they at most double a step in which others decode."""
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._idle: list[Sequence] = []

    @property
    def waiting(self) -> list[Sequence]:
        """Sequences that wait for admission, the next one first."""
        return [s for s in self._waiting if not s.finished]

    @property
    def running(self) -> list[Sequence]:
        """Admitted sequences, the oldest first."""
        return [s for s in self._running if not s.finished]

    @property
    def kv_bytes(self) -> int:
        """Bytes of KV of the sequences that have any, in whole blocks."""
        return self.kv.sum(map(_grown, self._begun()))

    def unfinished(self) -> list[Sequence]:
        """Every sequence that has not ended."""
        return [s for s in (*self._running, *self._waiting, *self._idle) if not s.finished]

    def begun(self) -> list[Sequence]:
        """Sequences that are admitted or have KV."""
        placed = set(map(id, self._running))
        return [s for s in self.unfinished() if id(s) in placed or s.cache is not None]

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence after those of its priority; idle ones have their own queue."""
        if sequence.request.options.priority == "idle":
            self._idle.append(sequence)
            for forgotten in [s for s in self._idle if not s.finished][:-MAX_IDLE]:
                forgotten.finish("cancelled")
        else:
            self._waiting.append(sequence)
            self._waiting.sort(key=_priority)

    def retire(self) -> list[Sequence]:
        """Remove and return the sequences that have ended."""
        ended = [s for s in (*self._running, *self._waiting, *self._idle) if s.finished]
        self._waiting, self._running = self.waiting, self.running
        self._idle = [s for s in self._idle if not s.finished]
        return ended

    def admit(self) -> list[Sequence]:
        """Admit waiting sequences in order while their KV fits; return them."""
        admitted: list[Sequence] = []
        caches = [*map(_grown, self._running)]
        for sequence in self.waiting:
            own = (len(sequence.ids) + BLOCK, sequence.precision)
            fits = not self._running or self.kv.holds([*caches, own])
            if len(self._running) == self._max_running or not fits:
                break
            if not self._is_being_prefilled(sequence):
                # Reasoning that is closed at the start adds tokens at once.
                caches.append((len(sequence.ids) + FEW, sequence.precision))
                admitted.append(sequence)
                self._running.append(sequence)
                self._waiting.remove(sequence)
        return admitted

    def pause(self) -> list[Sequence]:
        """Pause sequences until the next step fits: the least urgent, then the youngest, first.

        One sequence always stays: it fits alone, as was checked when it was submitted.
        """
        paused: list[Sequence] = []
        while len(self._running) > 1 and not self.kv.holds(map(_grown, self._running)):
            youngest = max(
                enumerate(self._running), key=lambda item: (_priority(item[1]), item[0])
            )[1]
            self._running.remove(youngest)
            self._waiting.append(youngest)
            paused.append(youngest)
        # Sequences that have begun go before others of the same priority.
        self._waiting.sort(key=lambda s: (_priority(s), not s.has_begun))
        return paused

    def idle(self) -> Sequence | None:
        """The prompt to prefill if nothing else is to do and its KV fits."""
        if self._waiting or self._running or not self._idle:
            return None
        first = self._idle[0]
        return first if self.kv.holds([(len(first.ids), first.precision)]) else None

    def interrupt_idle(self) -> list[Sequence]:
        """The begun idle prompts, whose KV is put away when a request arrives.

        Idle prompts that are a prefix of a waiting request are dropped: it prefills them itself.
        """
        for forgotten in [s for s in self._idle if _is_begun_by(s, self.waiting)]:
            forgotten.finish("cancelled")
        return [s for s in self._idle if s.cache is not None]

    def schedule(self) -> list[ScheduledSegment]:
        """The next step: a token for every decoding sequence, and chunks of the prompts.

        Empty if nothing can advance before the dispatched step has been read.
        """
        idle = self.idle()
        if idle is not None:
            return [_chunk(idle, IDLE_TOKENS)] if idle.unrun_tokens else []
        # A token in flight needs room, and the one drawn after it too.
        decoding = [
            s for s in self._running if s.unrun_tokens <= FEW and (s.unrun_tokens or s.room > 1)
        ]
        prefilling = [s for s in self._running if s.unrun_tokens > FEW]
        segments = [ScheduledSegment(s, s.unrun_tokens, s.room > 0) for s in decoding]
        return segments + _chunks(prefilling, self._prefill_budget(decoding, prefilling))

    def _prefill_budget(self, decoding: list[Sequence], prefilling: list[Sequence]) -> int:
        """Prompt tokens of the next step."""
        if self.costs is None or not prefilling:
            return self.prefill_tokens
        return self.costs.chunk(
            [len(s.ids) for s in decoding],
            behind=max(len(s.ids) - s.unrun_tokens for s in prefilling),
            most=self.prefill_tokens,
        )

    def room(self) -> int | None:
        """Bytes of KV left beside running and idle sequences; None: no limit."""
        return self.kv.left(map(_grown, self._begun()))

    def _begun(self) -> list[Sequence]:
        """Running sequences, and idle ones that have KV."""
        return [*self._running, *(s for s in self._idle if s.cache is not None)]

    def _is_being_prefilled(self, sequence: Sequence) -> bool:
        """Whether a running sequence is prefilling a long prefix of this prompt."""
        return any(
            (shared := shared_tokens(other.ids, sequence.ids[:-1])) >= WORTH_WAITING
            and len(other.ids) - other.unrun_tokens < shared
            for other in self._running
            if other.precision == sequence.precision
        )


def shared_tokens(one: list[int], other: list[int]) -> int:
    """Length of the prefix that two lists share."""
    stop = min(len(one), len(other))
    if one[:stop] == other[:stop]:
        return stop
    return next(i for i in range(stop) if one[i] != other[i])


def _priority(sequence: Sequence) -> int:
    return PRIORITIES.index(sequence.request.options.priority)


def _grown(sequence: Sequence) -> tuple[int, KVPrecision]:
    """Its KV after the next step, which may add the token in flight and the one after it."""
    return len(sequence.ids) + 2, sequence.precision


def _chunks(prefilling: list[Sequence], budget: int) -> list[ScheduledSegment]:
    """Equal parts of the budget for all prompts; what one does not need goes to the next."""
    segments: list[ScheduledSegment] = []
    by_length = sorted(prefilling, key=lambda s: s.unrun_tokens)
    for left, sequence in zip(range(len(by_length), 0, -1), by_length, strict=True):
        if budget // left:
            segments.append(_chunk(sequence, budget // left))
            budget -= segments[-1].tokens
    return segments


def _chunk(sequence: Sequence, budget: int) -> ScheduledSegment:
    tokens = min(budget, sequence.unrun_tokens)
    return ScheduledSegment(sequence, tokens, tokens == sequence.unrun_tokens and sequence.room > 0)


def _is_begun_by(idle: Sequence, waiting: list[Sequence]) -> bool:
    return any(
        other.ids[: len(idle.ids)] == idle.ids and other.precision == idle.precision
        for other in waiting
    )
