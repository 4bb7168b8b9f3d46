"""Which sequences advance in the next step, and by how many tokens."""

from collections import deque
from dataclasses import dataclass

from magistral_mlx.sequence import Sequence

FEW = 8
"""Known tokens that go with the decoding ones: what closes the reasoning is not put off."""


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

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self._waiting.append(sequence)

    def admit(self) -> list[Sequence]:
        """Forget finished sequences, and let waiting ones run as far as there is a place."""
        self._running = [s for s in self._running if not s.finished]
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
        shares = [Share(s, s.unrun_tokens, True) for s in decoding if _can_decode(s)]
        budget = self._prefill_tokens
        for sequence in prefilling:
            tokens = min(budget, sequence.unrun_tokens)
            if tokens:
                shares.append(Share(sequence, tokens, tokens == sequence.unrun_tokens))
                budget -= tokens
        return shares

    def unfinished(self) -> list[Sequence]:
        """Every sequence that has not ended."""
        return [s for s in (*self._running, *self._waiting) if not s.finished]


def _can_decode(sequence: Sequence) -> bool:
    """The token in flight takes one place, and the one sampled after it another."""
    return sequence.unrun_tokens > 0 or sequence.room > 1
