"""Which sequences advance in the next step, and by how many tokens."""

from collections import deque
from dataclasses import dataclass

from magistral_mlx.sequence import Sequence

FEW = 8
"""Known tokens that go with the decoding ones: what closes the reasoning is not put off."""


IDLE_TOKENS = 64
"""Tokens of a step that nobody waits for: what a request that comes in may have to sit out."""


MAX_IDLE = 8
"""Idle prompts that are remembered; of more, the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one sequence does in a step.

    tokens: known tokens to run; 0 means the one sampled in the step before, not read yet.
    sample: whether the next token is drawn after them.
    """

    sequence: Sequence
    tokens: int
    sample: bool


class Scheduler:
    """Waiting and running sequences, first come first served."""

    def __init__(self, *, max_running: int, prefill_tokens: int) -> None:
        """Run at most `max_running` sequences, and prefill `prefill_tokens` tokens in a step."""
        self._max_running = max_running
        self._prefill_tokens = prefill_tokens
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._idle: deque[Sequence] = deque(maxlen=MAX_IDLE)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self._waiting.append(sequence)

    @property
    def waiting(self) -> list[Sequence]:
        """Sequences that have no place yet, the next one first."""
        return [s for s in self._waiting if not s.finished]

    def retire(self) -> list[Sequence]:
        """Take out the sequences that have ended."""
        ended = [s for s in (*self._running, *self._idle) if s.finished]
        self._running = [s for s in self._running if not s.finished]
        self._idle = deque((s for s in self._idle if not s.finished), MAX_IDLE)
        return ended

    def add_idle(self, sequence: Sequence) -> None:
        """Queue a prompt whose KV is to be there in case it is asked for."""
        self._idle.append(sequence)

    def idle(self) -> Sequence | None:
        """The prompt to prefill while there is nothing else to do."""
        busy = self._waiting or self._running
        return None if busy or not self._idle else self._idle[0]

    def interrupt_idle(self) -> list[Sequence]:
        """The idle prompts that have been begun, to be put back when a request comes in.

        Those that the request begins with are forgotten: it prefills them itself.
        """
        begun = [s for s in self._idle if s.cache is not None]
        left = (s for s in self._idle if not _is_begun_by(s, self.waiting))
        self._idle = deque(left, MAX_IDLE)
        return begun

    def admit(self) -> list[Sequence]:
        """Let waiting sequences run as far as there is a place."""
        admitted = []
        while self._waiting and len(self._running) < self._max_running:
            sequence = self._waiting.popleft()
            if not sequence.finished:
                admitted.append(sequence)
                self._running.append(sequence)
        return admitted

    def plan(self) -> list[Share]:
        """The next step: a token for every decoding sequence, then chunks of the oldest prompts.

        Empty when nothing can advance before the step in flight has been read.
        """
        decoding = [s for s in self._running if s.unrun_tokens <= FEW]
        prefilling = [s for s in self._running if s.unrun_tokens > FEW]
        shares = [Share(s, s.unrun_tokens, s.room > 0) for s in decoding if _can_decode(s)]
        budget = self._prefill_tokens
        for sequence in prefilling:
            if budget:
                shares.append(_chunk(sequence, budget))
                budget -= shares[-1].tokens
        idle = self.idle()
        return [_chunk(idle, IDLE_TOKENS)] if idle and idle.unrun_tokens else shares

    def unfinished(self) -> list[Sequence]:
        """Every sequence that has not ended."""
        return [s for s in (*self._running, *self._waiting, *self._idle) if not s.finished]


def _chunk(sequence: Sequence, budget: int) -> Share:
    tokens = min(budget, sequence.unrun_tokens)
    return Share(sequence, tokens, tokens == sequence.unrun_tokens and sequence.room > 0)


def _is_begun_by(idle: Sequence, waiting: list[Sequence]) -> bool:
    return any(other.ids[: len(idle.ids)] == idle.ids for other in waiting)


def _can_decode(sequence: Sequence) -> bool:
    """The token in flight takes one place, and the one sampled after it another."""
    return sequence.unrun_tokens > 0 or sequence.room > 1
