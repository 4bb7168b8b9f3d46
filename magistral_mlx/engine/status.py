"""What the engine tells of itself while it runs, for gauges and metrics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """As of the last step.

    running, waiting: requests; idle prompts do not count.
    kv_running_bytes: KV of running sequences, in whole blocks; kv_stored_bytes: of finished ones.
    kv_limit_bytes: what both may take together; None for no limit.
    failure: why the engine has died, where that is known.
    """

    alive: bool
    running: int
    waiting: int
    kv_running_bytes: int
    kv_stored_bytes: int
    kv_limit_bytes: int | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step that has been read.

    seconds: since the step before it, or since it was sent when there was none.
    prefill_tokens: known tokens that it ran; decode_tokens: those that it ran as soon as drawn.
    kv_bytes: of running and finished sequences.
    """

    seconds: float
    prefill_tokens: int
    decode_tokens: int
    running: int
    waiting: int
    kv_bytes: int
