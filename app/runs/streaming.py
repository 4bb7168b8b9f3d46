"""A running answer as the browser gets it: only what changed, a dozen times a second at most."""

import threading
import time
from dataclasses import asdict

from magistral_mlx.app.rendering.growing_text import GrowingText
from magistral_mlx.app.rendering.markdown import MarkdownRenderer
from magistral_mlx.app.runs.chain import ChainSnapshot
from magistral_mlx.app.runs.registry import RunRegistry
from magistral_mlx.app.runs.run import AnswerRun, RunSnapshot
from magistral_mlx.app.runs.votes import vote

PAUSE = 0.075
"""Seconds in which new text is collected before it is sent."""
POLL = 1.0
"""Maximum seconds that a tab waits for a change; it counts as watching meanwhile."""


class LiveRuns:
    """The running answers; each text is rendered once for all tabs that watch it."""

    def __init__(self, runs: RunRegistry, renderer: MarkdownRenderer) -> None:
        """Watch nothing yet."""
        self._runs = runs
        self._renderer = renderer
        self._lock = threading.Lock()
        self._shown: dict[str, _ShownRun] = {}

    def next(self, conversation: str, version: int) -> dict[str, object] | None:
        """Wait for a change after `version` and return it; None if nothing runs.

        The patch has the run's and its chains' figures, and of each text the blocks that changed.
        A tab asks again once it has shown a patch; the run continues only while a tab asks.
        """
        run = self._runs.of(conversation)
        if run is None:
            return None
        with run.watch():
            return self._of(run).next(version)

    def _of(self, run: AnswerRun) -> "_ShownRun":
        with self._lock:
            for other in [key for key, shown in self._shown.items() if shown.ended]:
                del self._shown[other]
            if run.id not in self._shown:
                self._shown[run.id] = _ShownRun(run, self._renderer)
            return self._shown[run.id]


class _ShownRun:
    def __init__(self, run: AnswerRun, renderer: MarkdownRenderer) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._latest: RunSnapshot | None = None
        self._texts = [
            (GrowingText(renderer), GrowingText(renderer)) for _ in run.snapshot().chains
        ]

    @property
    def ended(self) -> bool:
        return self._latest is not None and self._latest.ended

    def next(self, version: int) -> dict[str, object]:
        snapshot = self._run.wait(version, POLL)
        if self._has_only_more_text(snapshot):
            time.sleep(PAUSE)
            snapshot = self._run.snapshot()
        with self._lock:
            if self._latest is None or snapshot.version > self._latest.version:
                self._latest = snapshot
                self._render(snapshot)
            return self._patch(self._latest, version)

    def _has_only_more_text(self, snapshot: RunSnapshot) -> bool:
        """Whether it can wait a moment. The first text of a part and the end cannot."""
        before = self._latest
        return (
            before is not None
            and before.version < snapshot.version
            and [chain.state for chain in before.chains]
            == [chain.state for chain in snapshot.chains]
        )

    def _render(self, snapshot: RunSnapshot) -> None:
        for chain, (reasoning, answer) in zip(snapshot.chains, self._texts, strict=True):
            for text, shown in ((chain.reasoning, reasoning), (chain.answer, answer)):
                write = shown.finish if chain.ended else shown.update
                write(text, snapshot.version)

    def _patch(self, snapshot: RunSnapshot, version: int) -> dict[str, object]:
        return {
            "run": snapshot.run,
            "question": snapshot.question,
            "version": snapshot.version,
            "state": snapshot.state,
            "ended": snapshot.ended,
            "thinking_budget": snapshot.thinking_budget,
            "chains": [
                _chain_patch(chain, texts, version)
                for chain, texts in zip(snapshot.chains, self._texts, strict=True)
            ],
            "agree": _agreeing(snapshot),
        }


def _chain_patch(
    chain: ChainSnapshot, texts: tuple[GrowingText, GrowingText], version: int
) -> dict[str, object]:
    reasoning, answer = (asdict(text.since(version)) for text in texts)
    prefill, figures = chain.prefill, chain.figures
    return {
        "message": chain.message,
        "state": chain.state,
        "reasoning": reasoning,
        "answer": answer,
        "prefill_done": prefill.done,
        "prefill_total": prefill.total,
        "cached_tokens": figures.cached_tokens if prefill.total else None,
        "tokens": figures.completion_tokens,
        "reasoning_tokens": figures.reasoning_tokens,
        "seconds_to_first_token": figures.seconds_to_first_token,
        "tokens_per_second": figures.tokens_per_second,
        "seconds": figures.total_seconds,
        "reasoning_seconds": figures.reasoning_seconds or 0.0,
        "error": figures.error,
    }


def _agreeing(snapshot: RunSnapshot) -> list[int]:
    """Indices of the chains that agree, once all have ended."""
    if len(snapshot.chains) < 2 or not snapshot.ended:
        return []
    return list(vote([chain.answer for chain in snapshot.chains]).agree)
