"""The thread that owns the model and every MLX array: submit, stream, cancel."""

import atexit
import logging
import queue
import threading
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from magistral_mlx.byte_counts import kv_bytes_per_token
from magistral_mlx.checkpoint import Checkpoint
from magistral_mlx.errors import RequestError, UserError
from magistral_mlx.events import Event
from magistral_mlx.kv_budget import KVBudget
from magistral_mlx.kv_cache import KVCache
from magistral_mlx.kv_store import KVStore
from magistral_mlx.model import Decoder, compute_dtype, load_decoder
from magistral_mlx.prefix_cache import LEAST_TOKENS, REST_SECONDS, PrefixCache
from magistral_mlx.request import Request, limits
from magistral_mlx.scheduler import Scheduler, shared_tokens
from magistral_mlx.sequence import Sequence
from magistral_mlx.step import Step, dispatch, settle
from magistral_mlx.step_costs import known_step_costs
from magistral_mlx.stream import EngineError, QueueFullError, Stream
from magistral_mlx.tokenizer import Tokenizer

MAX_RUNNING = 8
"""Sequences that run at once; others wait."""

MAX_WAITING = 256
"""Sequences that may wait; more are refused."""

PREFILL_TOKENS = 512
"""Prompt tokens in one step."""

_DEATH = "The engine has died: open the model again."

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Submit:
    sequence: Sequence


@dataclass(frozen=True, slots=True)
class _Cancel:
    sequence: Sequence


class _Close:
    """Ends the thread."""


_Message = _Submit | _Cancel | _Close


class Engine:
    """Runs many requests at once over one model. Its methods may be called from any thread."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: Tokenizer,
        *,
        window: int,
        dtype: mx.Dtype | None = None,
        max_running: int = MAX_RUNNING,
        prefill_tokens: int = PREFILL_TOKENS,
        max_waiting: int = MAX_WAITING,
        kv_bytes: int | None = None,
        prefix_bytes: int = 0,
        kv_store: KVStore | None = None,
        costs_folder: Path | None = None,
    ) -> None:
        """Start the thread and load the model; return when it is ready.

        kv_bytes: of KV at once, of running sequences and of finished ones; None: no limit.
        prefix_bytes: of finished KV to keep for prompts that begin alike, as far as kv_bytes has
            room beside the running sequences.
        kv_store: where finished KV outlives memory and the process.
        costs_folder: where the time of steps is kept, which prompts are cut by so that they do
            not more than double the steps of running answers; None: they are not.

        Raises CheckpointError, from the thread, when the weights cannot be loaded.
        """
        compute = dtype or compute_dtype(checkpoint.config.dtype)
        name = str(compute).removeprefix("mlx.core.")
        per_token = kv_bytes_per_token(checkpoint.config, name, bits=8 * compute.size)
        kv = KVBudget(bytes_per_token=per_token, limit=kv_bytes)
        self.window = window if kv.tokens is None else min(window, kv.tokens)
        self._max_waiting = max_waiting
        self._prefill_tokens = prefill_tokens
        self._tokenizer = tokenizer
        self._scheduler = Scheduler(max_running=max_running, prefill_tokens=prefill_tokens, kv=kv)
        self._prefixes = PrefixCache(limit=prefix_bytes, disk=kv_store)
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._lock = threading.Lock()  # between "is it closed?" and "put it in the inbox"
        self._closed = False
        loaded: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run,
            args=(checkpoint, dtype, costs_folder, loaded),
            name="magistral-engine",
            daemon=True,
        )
        self._thread.start()
        failure = loaded.get()
        if failure is not None:
            raise failure
        # A daemon thread inside MLX when the interpreter goes away would crash the process.
        atexit.register(self.close)

    def submit(self, request: Request) -> Stream:
        """Queue a request.

        Raises:
            RequestError: the prompt does not fit the window, or has ids outside the vocabulary.
            EngineError: the engine is closed or dead; QueueFullError: too many requests wait.
        """
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        sequence = self.submit_to(request, events.put)
        return Stream(events, lambda: self.cancel(sequence))

    def submit_to(self, request: Request, send: Callable[[Event], None]) -> Sequence:
        """As `submit`, but events go to `send`, which the engine's thread calls: be quick."""
        for token in (min(request.prompt), max(request.prompt)):
            if not 0 <= token < self._tokenizer.vocab_size:
                raise RequestError(
                    f"The prompt holds the token id {token}; the vocabulary has "
                    f"{self._tokenizer.vocab_size:,}: encode it with this checkpoint's tokenizer."
                )
        bounds = limits(request, window=self.window)
        sequence = Sequence(request, bounds, self._tokenizer, send)
        self._put(_Submit(sequence))
        return sequence

    def prefill_when_idle(self, prompt: Seq[int]) -> None:
        """Have the KV of a prompt at hand that is likely to come; give way to any request.

        Nothing happens when the prompt does not fit the window or the engine is closed.
        """
        if not 0 < len(prompt) < self.window:
            return
        request = Request(tuple(prompt), priority="idle")
        bounds = limits(request, window=self.window)
        with self._lock:
            if not self._closed:
                sequence = Sequence(request, bounds, self._tokenizer, lambda _: None)
                self._inbox.put(_Submit(sequence))

    def cancel(self, sequence: Sequence) -> None:
        """End a request within one step. Nothing happens when it has ended already."""
        with self._lock:
            if not self._closed:
                self._inbox.put(_Cancel(sequence))

    def close(self) -> None:
        """Cancel what runs, end the thread and free the model. May be called again."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._inbox.put(_Close())
        if threading.current_thread() is not self._thread:
            self._thread.join()
        atexit.unregister(self.close)

    def _put(self, message: _Submit) -> None:
        with self._lock:
            if self._closed:
                raise EngineError("The engine is closed: open the model again.")
            waiting = len(self._scheduler.waiting) + self._inbox.qsize()
            if waiting >= self._max_waiting:
                raise QueueFullError(f"{waiting} requests wait already: try again later.")
            self._inbox.put(message)

    def _run(
        self,
        checkpoint: Checkpoint,
        dtype: mx.Dtype | None,
        costs_folder: Path | None,
        loaded: "queue.SimpleQueue[BaseException | None]",
    ) -> None:
        died = True
        try:
            self._serve(checkpoint, dtype, costs_folder, loaded)
            died = False
        finally:
            self._end(failure=_DEATH if died else None)
            loaded.put(EngineError(_DEATH))  # if that was while loading, somebody waits for it
            for sequence in self._scheduler.retire():
                sequence.cache = None  # whoever still has the sequence does not keep its memory
            self._prefixes.clear()
            mx.clear_cache()
            # What MLX keeps for a thread must go before the thread does, or the process aborts.
            mx.clear_streams()

    def _serve(
        self,
        checkpoint: Checkpoint,
        dtype: mx.Dtype | None,
        costs_folder: Path | None,
        loaded: "queue.SimpleQueue[BaseException | None]",
    ) -> None:
        try:
            decoder = load_decoder(checkpoint, dtype=dtype)
            if costs_folder is not None:
                self._pace(decoder, checkpoint.fingerprint, costs_folder)
        except (UserError, OSError, RuntimeError, ValueError) as error:
            loaded.put(error)
            return
        loaded.put(None)
        step: Step | None = None
        while self._read_inbox(block=step is None):
            try:
                step = self._advance(decoder, step)
            except Exception:  # a failed step must not take the engine down with it
                logger.exception("A step failed; the requests that were running have ended.")
                step = None
                self._give_up("The model failed in the middle of this request.")
        self._end()
        self._keep(self._scheduler.retire())
        self._prefixes.close()

    def _advance(self, decoder: Decoder, before: Step | None) -> Step | None:
        """Dispatch the next step, then read the one before it."""
        for sequence in self._scheduler.unfinished():
            if sequence.expired:
                sequence.finish("timeout")
        self._keep(self._scheduler.retire())
        if self._scheduler.waiting:
            self._keep(self._scheduler.interrupt_idle())
        paused = self._scheduler.pause()
        for sequence in paused:
            sequence.pause()
        # One that is paused must not come back while its last token is still on its way.
        for sequence in [] if paused else self._scheduler.admit():
            self._start(decoder, sequence)
        idle = self._scheduler.idle()
        if idle is not None and idle.cache is None:
            self._start(decoder, idle)
        self._prefixes.shrink(self._scheduler.room())
        shares = self._scheduler.plan()
        step = dispatch(decoder, shares, before) if shares else None
        if before is not None:
            settle(before, after=step)
        return step

    def _pace(self, decoder: Decoder, fingerprint: str, folder: Path) -> None:
        largest = self._prefill_tokens
        costs = known_step_costs(decoder, fingerprint=fingerprint, largest=largest, folder=folder)
        self._scheduler.pace(costs)

    def _start(self, decoder: Decoder, sequence: Sequence) -> None:
        cache = self._known_beginning(sequence) or decoder.make_cache()
        cache.reserve(len(sequence.ids))
        sequence.start(cache)

    def _known_beginning(self, sequence: Sequence) -> KVCache | None:
        """KV of the longest beginning that is stored or that a running sequence has."""
        ids = sequence.ids
        running = [s for s in self._scheduler.running if s is not sequence and s.cache is not None]
        lengths = [_reusable(ids, other) for other in running]
        best = max(lengths, default=0)
        if best > max(LEAST_TOKENS, self._prefixes.longest(ids)):
            cache = running[lengths.index(best)].cache
            return cache.copy(best) if cache is not None else None
        others = [waiting.ids for waiting in self._scheduler.waiting]
        return self._prefixes.take(
            ids,
            others=others,
            cut=sequence.request.priority == "idle",
            brief=len(self._scheduler.running) > 1,
        )

    def _keep(self, sequences: list[Sequence]) -> None:
        """Store the KV of sequences that have ended or were interrupted."""
        for sequence in sequences:
            released = sequence.release()
            if released is not None:
                # As long as it is lazy, a storage that was cut keeps the whole one alive.
                mx.async_eval(released[1].arrays)
                self._prefixes.put(*released)

    def _read_inbox(self, *, block: bool) -> bool:
        """Act on the messages that have come; wait for one when there is nothing else to do."""
        if block and not self._scheduler.unfinished():
            self._keep(self._scheduler.retire())
            mx.clear_cache()
            if not self._handle(self._next_message()):
                return False
            mx.reset_peak_memory()
        while not self._inbox.empty():
            if not self._handle(self._inbox.get()):
                return False
        return True

    def _next_message(self) -> _Message:
        """Wait for a message. After some rest, finished KV goes to disk until one comes."""
        if self._prefixes.unsaved:
            try:
                return self._inbox.get(timeout=REST_SECONDS)
            except queue.Empty:
                self._prefixes.save(stop=lambda: not self._inbox.empty())
        return self._inbox.get()

    def _handle(self, message: _Message) -> bool:
        if isinstance(message, _Submit):
            self._scheduler.add(message.sequence)
        elif isinstance(message, _Cancel):
            message.sequence.finish("cancelled")
        return not isinstance(message, _Close)

    def _give_up(self, message: str) -> None:
        """End what a failed step may have had to do with; those that wait have lost nothing."""
        for sequence in self._scheduler.begun() or self._scheduler.unfinished():
            sequence.fail(message)
        self._prefixes.clear()  # it may hold KV that the step was to compute

    def _end(self, *, failure: str | None = None) -> None:
        """Whatever ended the thread: nobody waits for events that will not come."""
        with self._lock:
            self._closed = True
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, _Submit):
                self._scheduler.add(message.sequence)
        for sequence in self._scheduler.unfinished():
            if failure is None:
                sequence.finish("cancelled")
            else:
                sequence.fail(failure)


def _reusable(ids: list[int], other: Sequence) -> int:
    """Tokens of these ids that another sequence has KV for; the last is always left to run."""
    assert other.cache is not None
    return min(shared_tokens(ids, other.ids), other.cache.length, len(ids) - 1)
