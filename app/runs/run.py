"""A running generation, apart from any browser tab that watches it."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self
from uuid import uuid4

from magistral_mlx.app.runs.chain import Chain
from magistral_mlx.app.runs.running_model import RunningStream
from magistral_mlx.app.runs.snapshot import RunState, Snapshot
from magistral_mlx.app.runs.votes import vote
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import EngineError, UserError
from magistral_mlx.events import Failed

logger = logging.getLogger(__name__)

SAVE_SECONDS = 1.0
GRACE_SECONDS = 3.0
"""A run goes on for so long without a watcher: a page that is reloaded comes back sooner."""

_TICK_SECONDS = 0.25
_PROGRESS: tuple[RunState, ...] = ("queued", "prefill", "reasoning", "answer")


class Run:
    """One question being answered by one or more chains. Any thread may call any method."""

    def __init__(
        self,
        store: Store,
        question: StoredMessage,
        answers: Sequence[tuple[StoredMessage, RunningStream]],
        *,
        thinking_budget: int | None = None,
        grace: float | None = GRACE_SECONDS,
        on_end: Callable[["Run"], None] = lambda run: None,
    ) -> None:
        """Read the streams, saving each as its message; use `registry.RunRegistry.start`.

        grace: seconds that it goes on without any watcher; None: to its end.
        """
        self.id = answers[0][0].group or uuid4().hex
        self.conversation = question.conversation
        self.question = question.id
        self.thinking_budget = thinking_budget
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
        self._watches: set[Watch] = set()
        self._unwatched_since = time.monotonic()
        self._chains_ended = threading.Event()
        self._start_threads()

    def snapshot(self) -> Snapshot:
        """The run as it is now."""
        with self._changed:
            return self._snapshot()

    def wait(self, version: int, timeout: float | None = None) -> Snapshot:
        """The run as soon as it is newer than `version`, or as it is after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > version or self._ended, timeout)
            return self._snapshot()

    def stop(self) -> None:
        """End all chains within a step; what they have written is kept."""
        for stream in self._streams:
            stream.cancel()

    def answer_now(self, chain: int | None = None) -> None:
        """Close the reasoning of a chain, or of all of them, and go on to the answer."""
        for stream in self._streams if chain is None else [self._streams[chain]]:
            stream.answer_now()

    def watch(self) -> "Watch":
        """Keep it going while this watch is open."""
        return Watch(self)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended and is saved; False: it still runs."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, timeout)

    def _start_threads(self) -> None:
        for chain, stream in zip(self._chains, self._streams, strict=True):
            threading.Thread(
                target=self._read, args=(chain, stream), name="run-chain", daemon=True
            ).start()
        threading.Thread(target=self._keep, name="run-keeper", daemon=True).start()

    def _read(self, chain: Chain, stream: RunningStream) -> None:
        failure = Failed("The answer ended without a word from the engine: ask again.")
        try:
            for event in stream:
                with self._changed:
                    chain.take(event)
                    self._announce()
        except (EngineError, UserError) as error:
            failure = Failed(str(error))
        finally:
            with self._changed:
                chain.fail(failure)  # nothing happens to one that has ended
                self._announce()
                if all(other.ended for other in self._chains):
                    self._chains_ended.set()

    def _keep(self) -> None:
        """Save while the chains run, stop them when nobody watches, and end the run."""
        try:
            saved = time.monotonic()
            while not self._chains_ended.wait(_TICK_SECONDS):
                if time.monotonic() - saved >= SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
                if self._is_forsaken():
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
                (content, reasoning), ending = chain.saved_text(), chain.ending()
                figures = chain.figures()
            try:
                found = self._store.write_answer(
                    chain.message,
                    content=content,
                    reasoning=reasoning,
                    ending=ending,
                    figures=figures,
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
        """Show the answer that most chains agree on, unless the user has gone elsewhere."""
        ids = [chain.message for chain in self._chains]
        winner = vote([chain.saved_text()[0] for chain in self._chains]).winner
        if winner is None or len(ids) < 2:
            return
        try:
            if self._store.conversation(self.conversation).leaf in ids:
                self._store.activate(self.conversation, ids[winner])
        except UserError as error:
            logger.warning("The majority's answer is not shown first: %s", error)

    def _is_forsaken(self) -> bool:
        with self._changed:
            if self._grace is None or self._watches:
                return False
            return time.monotonic() - self._unwatched_since >= self._grace

    def _announce(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _snapshot(self) -> Snapshot:
        chains = tuple(chain.snapshot() for chain in self._chains)
        return Snapshot(
            run=self.id,
            conversation=self.conversation,
            question=self.question,
            version=self._version,
            state=self._state([chain.state for chain in chains]),
            thinking_budget=self.thinking_budget,
            chains=chains,
        )

    def _state(self, states: Sequence[RunState]) -> RunState:
        if not self._ended:
            # Chains that have ended are being saved: the run is still answering.
            return max(
                (state if state in _PROGRESS else "answer" for state in states),
                key=_PROGRESS.index,
            )
        return next((end for end in ("done", "stopped") if end in states), "failed")

    def _add_watch(self, watch: "Watch") -> None:
        with self._changed:
            self._watches.add(watch)

    def _remove_watch(self, watch: "Watch") -> None:
        with self._changed:
            self._watches.discard(watch)
            if not self._watches:
                self._unwatched_since = time.monotonic()


class Watch:
    """A tab's interest in a run; leaving the block, or `close`, ends it."""

    def __init__(self, run: Run) -> None:
        """Use `Run.watch` or `RunRegistry.watch`."""
        self.run = run
        run._add_watch(self)

    def close(self) -> None:
        """No longer watch. Closing twice does no harm."""
        self.run._remove_watch(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
