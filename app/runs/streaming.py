"""A running answer as the browser gets it: only what changed, a dozen times a second at most."""

import threading
import time
from typing import TypedDict

from magistral_mlx.app.rendering.growing_text import GrowingText
from magistral_mlx.app.rendering.markdown import MarkdownRenderer
from magistral_mlx.app.runs.registry import Run, RunRegistry
from magistral_mlx.app.runs.snapshot import ChainSnapshot, Snapshot
from magistral_mlx.app.runs.votes import vote

PAUSE = 0.075
"""Seconds in which new text is collected before it is sent."""
POLL = 1.0
"""Most seconds that a tab waits for something new; it counts as watching meanwhile."""


class TextPatch(TypedDict):
    """`blocks` replace all blocks from index `start` on."""

    start: int
    blocks: list[str]


class ChainPatch(TypedDict):
    """A chain's figures as they are, and what of its texts changed."""

    message: str
    state: str
    reasoning: TextPatch
    answer: TextPatch
    prefill_done: int
    prefill_total: int
    cached_tokens: int | None
    tokens: int
    reasoning_tokens: int
    seconds_to_first_token: float | None
    tokens_per_second: float | None
    seconds: float
    reasoning_seconds: float
    error: str | None


class RunPatch(TypedDict):
    """A run as it is, after `version`."""

    run: str
    question: str
    version: int
    state: str
    ended: bool
    thinking_budget: int | None
    chains: list[ChainPatch]
    agree: list[int]


class LiveRuns:
    """The running answers; a text is rendered once, for all tabs that watch it."""

    def __init__(self, runs: RunRegistry, renderer: MarkdownRenderer) -> None:
        """Nothing is watched yet."""
        self._runs = runs
        self._renderer = renderer
        self._lock = threading.Lock()
        self._shown: dict[str, _ShownRun] = {}

    def next(self, conversation: str, version: int) -> RunPatch | None:
        """What changed after `version`, as soon as something did; None when nothing runs.

        A tab asks again as soon as it has shown this; the run goes on only while some tab does.
        """
        watch = self._runs.watch(conversation)
        if watch is None:
            return None
        with watch:
            return self._of(watch.run).next(version)

    def _of(self, run: Run) -> "_ShownRun":
        with self._lock:
            for other in [key for key, shown in self._shown.items() if shown.ended]:
                del self._shown[other]
            if run.id not in self._shown:
                self._shown[run.id] = _ShownRun(run, self._renderer)
            return self._shown[run.id]


class _ShownRun:
    def __init__(self, run: Run, renderer: MarkdownRenderer) -> None:
        self._run = run
        self._renderer = renderer
        self._lock = threading.Lock()
        self._texts: list[tuple[GrowingText, GrowingText]] = []
        self._latest: Snapshot | None = None

    @property
    def ended(self) -> bool:
        return self._latest is not None and self._latest.ended

    def next(self, version: int) -> RunPatch:
        snapshot = self._run.wait(version, POLL)
        if self._only_more_text(snapshot):
            time.sleep(PAUSE)
            snapshot = self._run.snapshot()
        with self._lock:
            return self._patch(snapshot, version)

    def _only_more_text(self, snapshot: Snapshot) -> bool:
        """Whether it can wait a moment. The first text of a part and the end cannot."""
        before = self._latest
        return (
            before is not None
            and before.version < snapshot.version
            and [chain.state for chain in before.chains]
            == [chain.state for chain in snapshot.chains]
        )

    def _patch(self, snapshot: Snapshot, version: int) -> RunPatch:
        if self._latest is None or snapshot.version > self._latest.version:
            self._latest = snapshot
            self._render(snapshot)
        latest = self._latest
        return RunPatch(
            run=latest.run,
            question=latest.question,
            version=latest.version,
            state=latest.state,
            ended=latest.ended,
            thinking_budget=latest.thinking_budget,
            chains=[
                _chain_patch(chain, texts, version)
                for chain, texts in zip(latest.chains, self._texts, strict=True)
            ],
            agree=_agreeing(latest),
        )

    def _render(self, snapshot: Snapshot) -> None:
        while len(self._texts) < len(snapshot.chains):
            self._texts.append((GrowingText(self._renderer), GrowingText(self._renderer)))
        for chain, (reasoning, answer) in zip(snapshot.chains, self._texts, strict=True):
            for text, shown in ((chain.reasoning, reasoning), (chain.answer, answer)):
                write = shown.finish if chain.ended else shown.update
                write(text, snapshot.version)


def _chain_patch(
    chain: ChainSnapshot, texts: tuple[GrowingText, GrowingText], version: int
) -> ChainPatch:
    reasoning, answer = (text.since(version) for text in texts)
    return ChainPatch(
        message=chain.message,
        state=chain.state,
        reasoning=TextPatch(start=reasoning.start, blocks=list(reasoning.blocks)),
        answer=TextPatch(start=answer.start, blocks=list(answer.blocks)),
        prefill_done=chain.prefill_done,
        prefill_total=chain.prefill_total,
        cached_tokens=chain.cached_tokens,
        tokens=chain.tokens,
        reasoning_tokens=chain.reasoning_tokens,
        seconds_to_first_token=chain.seconds_to_first_token,
        tokens_per_second=chain.tokens_per_second,
        seconds=chain.seconds,
        reasoning_seconds=chain.reasoning_seconds,
        error=chain.error,
    )


def _agreeing(snapshot: Snapshot) -> list[int]:
    """The chains that agree, once all have ended."""
    if len(snapshot.chains) < 2 or not snapshot.ended:
        return []
    return list(vote([chain.answer for chain in snapshot.chains]).agree)
