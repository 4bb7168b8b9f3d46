"""The engine as its callers see it: submit, stream, cancel. Its thread runs engine/loop.py."""

import atexit
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.device import DeviceOptions, dtype_name
from magistral_mlx.engine.inbox import Inbox
from magistral_mlx.engine.kv_budget import kv_budget
from magistral_mlx.engine.loop import EngineLoop
from magistral_mlx.engine.output import EmittedOutput, Emitter
from magistral_mlx.engine.request import Request, limits
from magistral_mlx.engine.scheduler import Scheduler
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.engine.status import EngineStatus, StepReport
from magistral_mlx.engine.stream import AnswerStream
from magistral_mlx.errors import EngineError, QueueFullError, RequestError
from magistral_mlx.events import Event, Finished
from magistral_mlx.kv.cache import KVCache, KVPrecision
from magistral_mlx.kv.disk.store import KVStore
from magistral_mlx.kv.prefix_cache import PrefixCache
from magistral_mlx.kv.quantised import kv_group
from magistral_mlx.memory.needs import PREFILL_TOKENS
from magistral_mlx.options import OutputOptions
from magistral_mlx.ranks.team import Team
from magistral_mlx.text.tokenizer import Tokenizer

MAX_RUNNING = 8
"""Sequences that run at once; others wait."""

MAX_WAITING = 256
"""Sequences that may wait; more are refused."""


class Engine:
    """Runs many requests at once over one model. Its methods may be called from any thread."""

    loop_type: ClassVar[type[EngineLoop]] = EngineLoop

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: Tokenizer,
        *,
        window: int,
        device: DeviceOptions | None = None,
        max_running: int = MAX_RUNNING,
        prefill_tokens: int = PREFILL_TOKENS,
        max_waiting: int = MAX_WAITING,
        kv_bytes: int | None = None,
        kv_precision: KVPrecision = KVCache.precision,
        prefix_bytes: int = 0,
        kv_store: KVStore | None = None,
        costs_folder: Path | None = None,
        on_step: Callable[[StepReport], None] | None = None,
        team: Team | None = None,
    ) -> None:
        """Start the thread and load the model; return when it is ready.

        kv_bytes: the KV budget, for running and finished sequences together; None: no limit.
        kv_precision: the default for requests that do not choose one.
        prefix_bytes: most bytes of the prefix cache, within what kv_bytes leaves beside the
            running sequences.
        kv_store: the prefix cache on disk.
        costs_folder: where measured step times are kept. Prefill chunks then at most double the
            steps of running answers; None: chunks are not limited by time.
        on_step: gets a report of every step, on the engine's thread: be quick.
        team: the ranks that share the model; None: this process has all of it.

        Raises:
            CheckpointError: the weights cannot be loaded.
            RequestError: the model's KV cannot be stored at that precision.
        """
        device = device or DeviceOptions()
        compute = device.compute_dtype(checkpoint.config.dtype)
        team = team or Team()
        self._config = team.part_of(checkpoint.config)
        self._kv = kv_budget(self._config, dtype_name(compute), limit=kv_bytes)
        self._kv_precision = kv_precision
        self._most_window = window
        self._max_waiting = max_waiting
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # held from counting the waiting to adding one more
        self.window = self._window_at(kv_precision)
        self._inbox = Inbox()
        self._emitter = Emitter()
        self._loop = self.loop_type(
            checkpoint,
            inbox=self._inbox,
            emitter=self._emitter,
            scheduler=Scheduler(
                max_running=max_running, prefill_tokens=prefill_tokens, kv=self._kv
            ),
            prefixes=PrefixCache(limit=prefix_bytes, disk=kv_store),
            device=device,
            costs_folder=costs_folder,
            on_step=on_step,
            team=team,
        )
        self._thread = threading.Thread(target=self._loop.run, name="magistral-engine", daemon=True)
        self._thread.start()
        self._loop.wait_until_loaded()
        # A daemon thread inside MLX when the interpreter goes away would crash the process.
        atexit.register(self.close)

    def submit(
        self, request: Request, on_stop: Callable[[str, Finished], None] = lambda _, __: None
    ) -> AnswerStream:
        """Queue a request. `on_stop` is called as AnswerStream says.

        Raises:
            RequestError: the prompt does not fit the window, or has ids outside the vocabulary.
            EngineError: the engine is closed or dead.
            QueueFullError: too many requests wait.
        """
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        sequence = self.submit_to(request, events.put)
        return AnswerStream(
            events,
            cancel=lambda: self.cancel(sequence),
            answer_now=lambda: self.answer_now(sequence),
            on_stop=on_stop,
        )

    def submit_to(self, request: Request, receiver: Callable[[Event], None]) -> Sequence:
        """As `submit`, but emit the events to `receiver`, on the emitter's thread: be quick."""
        for token in (min(request.prompt), max(request.prompt)):
            if not 0 <= token < self._tokenizer.vocab_size:
                raise RequestError(
                    f"The prompt holds the token id {token}; the vocabulary has "
                    f"{self._tokenizer.vocab_size:,}: encode it with this checkpoint's tokenizer."
                )
        sequence = self._sequence(request, receiver)
        with self._lock:
            waiting = len(self._loop.scheduler.waiting) + len(self._inbox)
            if waiting >= self._max_waiting:
                raise QueueFullError(f"{waiting} requests are waiting: try again later.")
            if not self._inbox.put(sequence):
                raise EngineError(
                    self._loop.failure or "The engine is closed: open the model again."
                )
        return sequence

    def prefill_when_idle(
        self, prompt: tuple[int, ...], *, kv_precision: KVPrecision | None = None
    ) -> None:
        """Prefill a prompt that is likely to come, while no request is running.

        A prompt that does not fit the window is ignored.
        """
        window = self._window_at(kv_precision or self._kv_precision)
        if 0 < len(prompt) < window:
            request = Request(
                prompt, options=OutputOptions(priority="idle", kv_precision=kv_precision)
            )
            self._inbox.put(self._sequence(request, lambda _: None))

    def cancel(self, sequence: Sequence) -> None:
        """End a request within one step, unless it has ended."""
        self._inbox.put(partial(sequence.finish, "cancelled"))

    def answer_now(self, sequence: Sequence) -> None:
        """Close a request's reasoning within one step, or as soon as the reasoning begins.

        An answer that has begun is not changed.
        """
        self._inbox.put(sequence.answer_now)

    def forget_finished(self) -> None:
        """Empty the prefix cache in memory, so that the next prompt is prefilled whole."""
        self._inbox.put(self._loop.forget_finished)

    @property
    def status(self) -> EngineStatus:
        """What runs, what waits, and their KV, as of the last step."""
        alive = self._thread.is_alive() and not self._inbox.closed
        return replace(self._loop.status, alive=alive, failure=self._loop.failure)

    def close(self) -> None:
        """Cancel all requests, end the thread and free the model. May be called again."""
        self._inbox.close()
        if threading.current_thread() not in (self._thread, self._emitter.thread):
            self._thread.join()
        atexit.unregister(self.close)

    def _sequence(self, request: Request, receiver: Callable[[Event], None]) -> Sequence:
        precision = request.options.kv_precision or self._kv_precision
        bounds = limits(request, window=self._window_at(precision))

        def stop(tokens: int) -> Finished:
            self._inbox.put(partial(sequence.stop, tokens))
            return sequence.end("stop", tokens)

        output = EmittedOutput(
            receiver,
            stop=request.options.stop,
            on_stop=stop,
            on_failure=lambda: self.cancel(sequence),
        )
        emit = partial(self._emitter.add, output)
        sequence = Sequence(request, bounds, self._tokenizer, emit, precision=precision)
        return sequence

    def _window_at(self, precision: KVPrecision) -> int:
        """Most tokens of a sequence at that precision. Raises RequestError if not possible."""
        if precision.bits is not None:
            kv_group(self._config.head_dim)
        longest = self._kv.longest_window(precision)
        return self._most_window if longest is None else min(self._most_window, longest)
