"""The answers that are being written, by conversation."""

import threading
import time
from dataclasses import replace
from uuid import uuid4

from magistral_mlx.app.runs.run import GRACE_SECONDS, Run, Watch
from magistral_mlx.app.runs.running_model import RunningModel, RunningStream
from magistral_mlx.app.store.branches import conversation_messages
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import EngineError, UserError
from magistral_mlx.options import GenerationOptions

__all__ = ["MAX_CHAINS", "Run", "RunRegistry", "Watch"]

MAX_CHAINS = 8


class RunRegistry:
    """The runs of a server, by conversation; one at a time for each."""

    def __init__(self, store: Store, *, grace: float | None = GRACE_SECONDS) -> None:
        """grace: seconds that a run goes on without any watcher; None: to its end."""
        self._store = store
        self._grace = grace
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._starting: set[str] = set()

    def start(
        self,
        model: RunningModel,
        question: str,
        options: GenerationOptions,
        *,
        chains: int = 1,
        system: str = "",
    ) -> Run:
        """Answer a stored user message (its id). Its answers are stored as its children.

        Raises UserError when it is refused, or when its conversation has a run already; nothing
        has been stored then.
        """
        if not 1 <= chains <= MAX_CHAINS:
            raise UserError(f"{chains} chains are not possible: choose 1 to {MAX_CHAINS}.")
        asked = self._store.message(question)
        with self._lock:
            if asked.conversation in self._runs or asked.conversation in self._starting:
                raise UserError(
                    "An answer is being written in this conversation: stop it, or wait for it."
                )
            self._starting.add(asked.conversation)
        try:
            return self._started(model, asked, options, chains=chains, system=system)
        finally:
            with self._lock:
                self._starting.discard(asked.conversation)

    def of(self, conversation: str) -> Run | None:
        """The run of this conversation that goes on, if any."""
        with self._lock:
            return self._runs.get(conversation)

    def watch(self, conversation: str) -> Watch | None:
        """Watch the run of this conversation, if one goes on."""
        run = self.of(conversation)
        return None if run is None else run.watch()

    def running(self) -> tuple[Run, ...]:
        """All runs that go on."""
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

    def _started(
        self,
        model: RunningModel,
        question: StoredMessage,
        options: GenerationOptions,
        *,
        chains: int,
        system: str,
    ) -> Run:
        messages = conversation_messages(self._store, question.id, system=system)
        streams: list[RunningStream] = []
        try:
            for number in range(chains):
                streams.append(model.stream(messages, _of_chain(options, number)))
            answers = self._add_answers(question, chains, model=model.name)
        except (EngineError, UserError) as error:
            for stream in streams:
                stream.cancel()
            raise UserError(str(error)) from error
        run = Run(
            self._store,
            question,
            list(zip(answers, streams, strict=True)),
            thinking_budget=options.thinking_budget,
            grace=self._grace,
            on_end=self._forget,
        )
        with self._lock:
            if not run.join(0):
                self._runs[run.conversation] = run
        return run

    def _add_answers(
        self, question: StoredMessage, count: int, *, model: str
    ) -> list[StoredMessage]:
        group = uuid4().hex if count > 1 else None
        return [
            self._store.add_message(
                question.conversation,
                parent=question.id,
                role="assistant",
                content="",
                ending=None,
                model=model,
                group=group,
                activate=number == 0,
            )
            for number in range(count)
        ]

    def _forget(self, run: Run) -> None:
        with self._lock:
            if self._runs.get(run.conversation) is run:
                del self._runs[run.conversation]


def _of_chain(options: GenerationOptions, number: int) -> GenerationOptions:
    """Chains with one seed would all be the same: each has the next one."""
    seed = options.sampling.seed
    if seed is None or number == 0:
        return options
    seeded = replace(options.sampling, seed=(seed + number) % 2**64)
    return replace(options, sampling=seeded)
