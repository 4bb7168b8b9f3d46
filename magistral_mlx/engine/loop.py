"""The thread that owns the model and every MLX array: it takes messages and runs steps."""

import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.device import DeviceOptions, mlx_thread
from magistral_mlx.engine.inbox import Close, Inbox, Message
from magistral_mlx.engine.output import Emitter
from magistral_mlx.engine.scheduler import Scheduler, shared_tokens
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.engine.status import EngineStatus, StepReport, StepReports
from magistral_mlx.engine.step import Step, dispatch, settle
from magistral_mlx.engine.step_costs import known_step_costs
from magistral_mlx.errors import EngineError, UserError
from magistral_mlx.kv.cache import KVCache
from magistral_mlx.kv.prefix_cache import LEAST_TOKENS, REST_SECONDS, PrefixCache
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.ranks.team import Team
from magistral_mlx.sampling.sampler import Sampler

DEATH = "The engine has died: open the model again."

ENDING_SECONDS = 1.0
"""How long the thread may take to end by itself after a rank is lost."""

REASON_SECONDS = 2.0
"""How long to wait for the team to report a lost rank after a step has failed."""

logger = logging.getLogger(__name__)


class EngineLoop:
    """Reads messages and runs steps, until it is closed.

    `run` is the thread's function. Other threads may read `status` and `failure` only.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        inbox: Inbox,
        emitter: Emitter,
        scheduler: Scheduler,
        prefixes: PrefixCache,
        device: DeviceOptions,
        costs_folder: Path | None,
        on_step: Callable[[StepReport], None] | None,
        team: Team,
    ) -> None:
        """See Engine."""
        self.scheduler = scheduler
        self.prefixes = prefixes
        self.status = self._status()
        self._checkpoint = checkpoint
        self._inbox = inbox
        self._emitter = emitter
        self._device = device
        self._costs_folder = costs_folder
        self._reports = StepReports(on_step)
        self._team = team
        self.failure: str | None = None
        self._loaded: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._lost = threading.Event()
        team.on_lost(self._lose)

    def wait_until_loaded(self) -> None:
        """Wait for the model, on the thread that started this one. Raises what loading raised."""
        failure = self._loaded.get()
        if failure is not None:
            raise failure

    @mlx_thread()
    def run(self) -> None:
        """Load the model and serve."""
        died = True
        self._emitter.thread.start()
        give_back = self._device.set_limits()
        try:
            self._serve()
            died = False
        finally:
            failure = self.failure or (DEATH if died else None)
            self._end(failure=failure)
            self._emitter.close()
            # If that was while loading, the starting thread waits for it.
            self._loaded.put(EngineError(failure or DEATH))
            self._ended.set()
            self._team.close(failed=died)
            for sequence in self.scheduler.retire():
                sequence.cache = None  # callers may still hold the sequence
            self.prefixes.clear()
            mx.clear_cache()
            give_back()

    def forget_finished(self) -> None:
        """Drop the KV of sequences that have ended; called on the engine's thread."""
        self._keep(self.scheduler.retire())
        self.prefixes.clear()

    def _serve(self) -> None:
        try:
            decoder = self._team.load(self._checkpoint, self._device)
            if self._costs_folder is not None:
                self._pace(decoder, self._costs_folder)
        except (UserError, OSError, RuntimeError, ValueError) as error:
            self._team.refuse(str(error))
            self._loaded.put(EngineError(self.failure) if self.failure else error)
            return
        self._loaded.put(None)
        sampler = Sampler()
        step: Step | None = None
        while self._read_inbox(block=step is None):
            try:
                step = self._advance(decoder, sampler, step)
            except Exception:  # a failed step must not end the engine
                logger.exception("A step failed; the requests that were running have ended.")
                if not self._team.can_recover:
                    self._lost.wait(REASON_SECONDS)
                    raise
                step = None
                self._give_up("The model failed in the middle of this request.")
            self.status = self._status()
        self._end(failure=self.failure)
        self._keep(self.scheduler.retire())
        self.prefixes.close()

    def _advance(self, decoder: Decoder, sampler: Sampler, before: Step | None) -> Step | None:
        """Dispatch the next step, then read the one before it."""
        self._make_room()
        # A paused sequence must not resume before its last token has been read.
        paused = self.scheduler.pause()
        self._keep(paused)
        for sequence in [] if paused else self.scheduler.admit():
            self._start(decoder, sequence)
        idle = self.scheduler.idle()
        if idle is not None and idle.cache is None:
            self._start(decoder, idle)
        self.prefixes.shrink(self.scheduler.room())
        segments = self.scheduler.schedule()
        if before is None:
            self._reports.begin()
        step = dispatch(decoder, sampler, segments, before) if segments else None
        if before is not None:
            settle(before, after=step)
            tokens = [segment.tokens for segment in before.segments]
            self._reports.report(tokens, self._status())
        return step

    def _make_room(self) -> None:
        """Retire what has ended, and interrupt idle prompts if requests wait."""
        for sequence in self.scheduler.unfinished():
            if sequence.expired:
                sequence.finish("timeout")
        self._keep(self.scheduler.retire())
        if self.scheduler.waiting:
            self._keep(self.scheduler.interrupt_idle())

    def _pace(self, decoder: Decoder, folder: Path) -> None:
        fingerprint, largest = self._checkpoint.fingerprint, self.scheduler.prefill_tokens
        self.scheduler.costs = known_step_costs(
            decoder, fingerprint=fingerprint, largest=largest, folder=folder, ranks=self._team.size
        )

    def _start(self, decoder: Decoder, sequence: Sequence) -> None:
        precision = sequence.precision
        cache = self._known_prefix(sequence) or decoder.make_cache(
            bits=precision.bits, start=precision.start
        )
        cache.reserve(len(sequence.ids))
        sequence.start(cache)

    def _known_prefix(self, sequence: Sequence) -> KVCache | None:
        """KV of the longest prefix that is in the prefix cache or that a running sequence has."""
        ids, precision = sequence.ids, sequence.precision
        caches = [
            # The last token is always left to run.
            (min(shared_tokens(ids, other.ids), other.cache.length, len(ids) - 1), other.cache)
            for other in self.scheduler.running
            if other is not sequence and other.cache is not None and other.precision == precision
        ]
        best, cache = max(caches, key=lambda known: known[0], default=(0, None))
        if cache is not None and best > max(
            LEAST_TOKENS, self.prefixes.longest_prefix(ids, precision=precision)
        ):
            return cache.copy(best)
        others = [other.ids for other in self.scheduler.waiting if other.precision == precision]
        return self.prefixes.take(
            ids,
            others=others,
            cut=sequence.request.options.priority == "idle",
            brief=len(self.scheduler.running) > 1,
            precision=precision,
        )

    def _keep(self, sequences: list[Sequence]) -> None:
        """Put the KV of ended, interrupted or paused sequences into the prefix cache."""
        for sequence in sequences:
            released = sequence.release()
            if released is not None:
                # Until it is evaluated, a trimmed array keeps the whole one alive.
                mx.async_eval(released[1].arrays)
                self.prefixes.put(*released)

    def _status(self) -> EngineStatus:
        return EngineStatus(
            alive=True,
            running=len(self.scheduler.running),
            waiting=len(self.scheduler.waiting),
            kv_running_bytes=self.scheduler.kv_bytes,
            kv_stored_bytes=self.prefixes.nbytes,
            kv_limit_bytes=self.scheduler.kv.limit,
        )

    def _read_inbox(self, *, block: bool) -> bool:
        """Handle the messages; wait for one if nothing else is to do. False ends the loop."""
        self._emitter.flush()
        if block and not self.scheduler.unfinished():
            self._keep(self.scheduler.retire())
            self._team.rest()
            self.status = self._status()
            if not self._handle(self._next_message()):
                return False
            mx.reset_peak_memory()
        while len(self._inbox):
            if not self._handle(self._inbox.get()):
                return False
        self._emitter.flush()
        return True

    def _next_message(self) -> Message | None:
        """Wait for a message. If none comes for a while, save finished KV to disk meanwhile."""
        if self.prefixes.unsaved:
            message = self._inbox.get(timeout=REST_SECONDS)
            if message is not None:
                return message
            self.prefixes.save(stop=lambda: len(self._inbox) > 0)
        return self._inbox.get()

    def _handle(self, message: Message | None) -> bool:
        if isinstance(message, Sequence):
            self.scheduler.add(message)
        elif message is not None and not isinstance(message, Close):
            message()
        return not isinstance(message, Close)

    def _give_up(self, message: str) -> None:
        """Fail the requests that a failed step may have touched; waiting ones lose nothing."""
        for sequence in self.scheduler.begun() or self.scheduler.unfinished():
            sequence.fail(message)
        self.prefixes.clear()  # it may hold KV that the step did not compute

    def _lose(self, failure: str) -> None:
        """A rank is lost; called on another thread. A step may raise now, or never end."""
        self.failure = failure
        self._lost.set()
        self._inbox.close()
        if not self._ended.wait(ENDING_SECONDS):
            # The thread hangs inside MLX, so no other thread touches the requests.
            self._end(failure=failure)
            self._emitter.flush()
            self._loaded.put(EngineError(failure))

    def _end(self, *, failure: str | None = None) -> None:
        """End every request, so that no caller waits for events that will not come."""
        for message in self._inbox.end():
            if isinstance(message, Sequence):
                self.scheduler.add(message)
        for sequence in self.scheduler.unfinished():
            if failure is None:
                sequence.finish("cancelled")
            else:
                sequence.fail(failure)
