"""The answers that are being written, by conversation."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

from magistral_mlx.app.runs.run import GRACE_SECONDS, AnswerRun, RunningModel, RunningStream
from magistral_mlx.app.store.branches import conversation_messages
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import EngineError, UserError
from magistral_mlx.options import GenerationOptions

MAX_CHAINS = 8


class RunRegistry:
    """The runs of a server, at most one for each conversation."""

    def __init__(self, store: Store, *, grace: float | None = GRACE_SECONDS) -> None:
        """grace: seconds that a run continues without a watcher; None: no limit."""
        self._store = store
        self._grace = grace
        self._lock = threading.Lock()
        self._runs: dict[str, AnswerRun] = {}
        self._starting: set[str] = set()

    def start(
        self,
        model: RunningModel,
        question: str,
        options: GenerationOptions,
        *,
        chains: int = 1,
        system: str = "",
    ) -> AnswerRun:
        """Answer a stored user message (its id); the answers are stored as its children.

        Raises UserError, before anything is stored, if the model refuses the question or the
        conversation already has a run.
        """
        if not 1 <= chains <= MAX_CHAINS:
            raise UserError(f"{chains} chains are not possible: choose 1 to {MAX_CHAINS}.")
        asked = self._store.message(question)
        with self._reserved(asked.conversation):
            run = AnswerRun(
                self._store,
                asked,
                self._begin_answers(model, asked, _seeded(options, chains), system),
                thinking_budget=options.thinking_budget,
                grace=self._grace,
                on_end=self._forget,
            )
            with self._lock:
                if not run.join(0):
                    self._runs[run.conversation] = run
        return run

    def of(self, conversation: str) -> AnswerRun | None:
        """The run in progress of this conversation, if any."""
        with self._lock:
            return self._runs.get(conversation)

    def running(self) -> tuple[AnswerRun, ...]:
        """All runs in progress."""
        with self._lock:
            return tuple(self._runs.values())

    def stop_all(self, timeout: float = 10.0) -> None:
        """Stop all runs and wait until they are saved."""
        runs = self.running()
        for run in runs:
            run.stop()
        deadline = time.monotonic() + timeout
        for run in runs:
            run.join(max(0.0, deadline - time.monotonic()))

    @contextmanager
    def _reserved(self, conversation: str) -> Iterator[None]:
        """Let nobody else start a run of this conversation meanwhile."""
        with self._lock:
            if conversation in self._runs or conversation in self._starting:
                raise UserError(
                    "An answer is being written in this conversation: stop it, or wait for it."
                )
            self._starting.add(conversation)
        try:
            yield
        finally:
            with self._lock:
                self._starting.discard(conversation)

    def _begin_answers(
        self,
        model: RunningModel,
        question: StoredMessage,
        options: Sequence[GenerationOptions],
        system: str,
    ) -> list[tuple[StoredMessage, RunningStream]]:
        """A stored answer and a stream for each of the options, or nothing if one is refused."""
        messages = conversation_messages(self._store, question.id, system=system)
        group = uuid4().hex if len(options) > 1 else None
        streams: list[RunningStream] = []
        try:
            for each in options:
                streams.append(model.stream(messages, each))
            answers = [
                StoredMessage(
                    conversation=question.conversation,
                    parent=question.id,
                    role="assistant",
                    content="",
                    ending=None,
                    model=model.name,
                    group=group,
                )
                for _ in streams
            ]
            for answer in answers:
                self._store.add_message(answer, activate=answer is answers[0])
            return list(zip(answers, streams, strict=True))
        except (EngineError, UserError) as error:
            for stream in streams:
                stream.cancel()
            raise UserError(str(error)) from error

    def _forget(self, run: AnswerRun) -> None:
        with self._lock:
            if self._runs.get(run.conversation) is run:
                del self._runs[run.conversation]


def _seeded(options: GenerationOptions, chains: int) -> list[GenerationOptions]:
    """Options for each chain. With a seed, each gets the next one: else all would be the same."""
    seed = options.sampling.seed
    if seed is None:
        return [options] * chains
    seeds = [(seed + number) % 2**64 for number in range(chains)]
    return [replace(options, sampling=replace(options.sampling, seed=seed)) for seed in seeds]
