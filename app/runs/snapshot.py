"""What a watcher of a running answer sees, at one moment."""

from dataclasses import dataclass
from typing import Literal

from magistral_mlx.app.store.records import Ending

ChainState = Literal["queued", "prefill", "reasoning", "answer", "done", "failed", "stopped"]
RunState = ChainState


@dataclass(frozen=True, slots=True)
class ChainSnapshot:
    """One chain of a run.

    message: id of the stored message that it is saved as.
    tokens, reasoning_tokens: counted by pieces of text while it runs, exact at the end.
    tokens_per_second: over the last seconds while it runs, of the whole answer at the end.
    seconds: since the start of the run, until its end; reasoning_seconds: of reasoning so far.
    """

    message: str
    state: ChainState
    reasoning: str
    answer: str
    prefill_done: int
    prefill_total: int
    cached_tokens: int | None
    tokens: int
    reasoning_tokens: int
    seconds_to_first_token: float | None
    tokens_per_second: float | None
    seconds: float
    reasoning_seconds: float
    ending: Ending | None
    reasoning_closed_by_force: bool
    error: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.state in ("done", "failed", "stopped")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment; `version` rises with every change.

    state: the most advanced of its chains while it runs; at the end "done", unless all chains
        were stopped or failed. Once it has ended, all of it has been saved.
    """

    run: str
    conversation: str
    question: str
    version: int
    state: RunState
    thinking_budget: int | None
    chains: tuple[ChainSnapshot, ...]

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.state in ("done", "failed", "stopped")
