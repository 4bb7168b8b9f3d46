"""The answers to one question in progress, independent of the browser tabs that watch them."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from magistral_mlx.app.runs.chain import ENDED, Chain, ChainSnapshot, ChainState
from magistral_mlx.app.runs.votes import vote
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import EngineError, UserError
from magistral_mlx.events import Event, Failed
from magistral_mlx.options import GenerationOptions
from magistral_mlx.text.conversation import Message

logger = logging.getLogger(__name__)

SAVE_SECONDS = 1.0
GRACE_SECONDS = 3.0
"""How long a run continues without a watcher: enough to reload the page."""

_TICK_SECONDS = 0.25
_PROGRESS: tuple[ChainState, ...] = ("queued", "prefill", "reasoning", "answer")


class RunningStream(Protocol):
    """The events of one answer; any thread may call `cancel` and `answer_now`."""

    def __iter__(self) -> Iterator[Event]: ...

    def cancel(self) -> None: ...

    def answer_now(self) -> None: ...


class RunningModel(Protocol):
    """What a run needs of an open model; `magistral_mlx.open_model` returns one."""

    @property
    def name(self) -> str: ...

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> RunningStream: ...


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run at one moment; `version` rises with every change.

    state: the most advanced state of its chains. At the end it is "done", unless all chains were
        stopped or failed; everything has been saved by then.
    """

    run: str
    conversation: str
    question: str
    version: int
    state: ChainState
    thinking_budget: int | None
    chains: tuple[ChainSnapshot, ...]

    @property
    def ended(self) -> bool:
        """Whether no more changes follow."""
        return self.state in ENDED


class AnswerRun:
    """One question, answered by one or more chains. Any thread may call any method."""

    def __init__(
        self,
        store: Store,
        question: StoredMessage,
        answers: Sequence[tuple[StoredMessage, RunningStream]],
        *,
        thinking_budget: int | None = None,
        grace: float | None = GRACE_SECONDS,
        on_end: Callable[["AnswerRun"], None] = lambda run: None,
    ) -> None:
        """Read the streams and save each as its message. Use `RunRegistry.start`.

        grace: seconds that the run continues without a watcher; None: no limit.
        """
        self.id = answers[0][0].group or uuid4().hex
        self.conversation = question.conversation
        self.question = question.id
        self._thinking_budget = thinking_budget
        self._store = store
        self._grace = grace
        self._on_end = on_end
        self._streams = [stream for _, stream in answers]
        self._chains = [
            Chain(message.id, thinking_budget=thinking_budget, clock=time.monotonic)
            for message, _ in answers
        ]
        self._changed = threading.Condition()  # guards everything below and the chains
        self._version = 1
        self._ended = False
        self._watchers = 0
        self._unwatched_since = time.monotonic()
        self._chains_ended = threading.Event()
        for chain, stream in zip(self._chains, self._streams, strict=True):
            threading.Thread(
                target=self._read, args=(chain, stream), name="run-chain", daemon=True
            ).start()
        threading.Thread(target=self._keep, name="run-keeper", daemon=True).start()

    def snapshot(self) -> RunSnapshot:
        """The run as it is now."""
        with self._changed:
            chains = tuple(chain.snapshot() for chain in self._chains)
            return RunSnapshot(
                run=self.id,
                conversation=self.conversation,
                question=self.question,
                version=self._version,
                state=self._state([chain.state for chain in chains]),
                thinking_budget=self._thinking_budget,
                chains=chains,
            )

    def wait(self, version: int, timeout: float | None = None) -> RunSnapshot:
        """Wait for a version newer than `version`, at most `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > version or self._ended, timeout)
            return self.snapshot()

    def stop(self) -> None:
        """End all chains within a step, and keep what they have written."""
        for stream in self._streams:
            stream.cancel()

    def answer_now(self, chain: int | None = None) -> None:
        """Close the reasoning of one chain, or of all, and continue with the answer."""
        for stream in self._streams if chain is None else [self._streams[chain]]:
            stream.answer_now()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Keep the run going inside the block."""
        with self._changed:
            self._watchers += 1
        try:
            yield
        finally:
            with self._changed:
                self._watchers -= 1
                self._unwatched_since = time.monotonic()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended and is saved; False: it still runs."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, timeout)

    def _read(self, chain: Chain, stream: RunningStream) -> None:
        failure = Failed("The engine stopped unexpectedly; ask again.")
        try:
            for event in stream:
                with self._changed:
                    chain.take(event)
                    self._announce()
        except (EngineError, UserError) as error:
            failure = Failed(str(error))
        finally:
            with self._changed:
                chain.fail(failure)  # does nothing if the chain has ended properly
                self._announce()
                if all(other.ended for other in self._chains):
                    self._chains_ended.set()

    def _keep(self) -> None:
        """Save while the chains run, stop them if nobody watches, and end the run."""
        try:
            saved = time.monotonic()
            while not self._chains_ended.wait(_TICK_SECONDS):
                if time.monotonic() - saved >= SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
                if self._is_abandoned():
                    self.stop()
            self._save()
            self._activate_the_majority()
        finally:
            with self._changed:
                self._ended = True
                self._announce()
            self._on_end(self)

    def _save(self) -> None:
        for chain in self._chains:
            with self._changed:
                now = chain.snapshot()
            try:
                found = self._store.write_answer(
                    now.message,
                    content=now.answer,
                    reasoning=now.reasoning or None,
                    ending=now.ending,
                    figures=now.figures,
                )
            except UserError as error:
                logger.warning("An answer was not saved: %s", error)
                with self._changed:
                    chain.note_error(str(error))
                    self._announce()
                continue
            if not found:  # its conversation was deleted
                self.stop()

    def _activate_the_majority(self) -> None:
        """Show the answer that most chains agree on, unless the user has left this branch."""
        chains = self.snapshot().chains
        winner = vote([chain.answer for chain in chains]).winner
        if winner is None or len(chains) < 2:
            return
        try:
            shown = self._store.conversation(self.conversation).leaf
            if shown in [chain.message for chain in chains]:
                self._store.activate(self.conversation, chains[winner].message)
        except UserError as error:
            logger.warning("The majority's answer is not shown first: %s", error)

    def _is_abandoned(self) -> bool:
        with self._changed:
            if self._grace is None or self._watchers:
                return False
            return time.monotonic() - self._unwatched_since >= self._grace

    def _announce(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _state(self, states: Sequence[ChainState]) -> ChainState:
        if not self._ended:
            # Ended chains are still being saved, so they count as answering.
            return max(
                (state if state in _PROGRESS else "answer" for state in states),
                key=_PROGRESS.index,
            )
        return next((end for end in ("done", "stopped") if end in states), "failed")
