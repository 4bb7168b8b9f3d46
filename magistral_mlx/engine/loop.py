"""The thread that owns the model and every MLX array: it takes messages and runs steps."""

import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.device import DeviceOptions, mlx_thread
from magistral_mlx.engine.inbox import (
    Cancel,
    Close,
    CloseReasoning,
    Forget,
    Inbox,
    Message,
    Stop,
    Submit,
)
from magistral_mlx.engine.known_beginning import known_beginning
from magistral_mlx.engine.output import Emitter
from magistral_mlx.engine.scheduler import Scheduler
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.engine.status import EngineStatus, StepReport, StepReports
from magistral_mlx.engine.step import Step, dispatch, settle
from magistral_mlx.engine.step_costs import known_step_costs
from magistral_mlx.errors import EngineError, UserError
from magistral_mlx.kv.prefix_cache import REST_SECONDS, PrefixCache
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.ranks.team import Team
from magistral_mlx.sampling.sampler import Sampler

DEATH = "The engine has died: open the model again."

ENDING_SECONDS = 1.0
"""What the thread has to end by itself when a rank is lost."""

REASON_SECONDS = 2.0
"""What the team has to say why a step failed, when that was because of another rank."""

logger = logging.getLogger(__name__)


class EngineLoop:
    """Takes messages and advances the scheduled sequences, until it is told to close.

    `run` is the thread's function. Others may read `status` and `failure`, and nothing else.
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
        """Wait, on the thread that has started this one; raise what it failed with."""
        failure = self._loaded.get()
        if failure is not None:
            raise failure

    @mlx_thread()
    def run(self) -> None:
        """Load the model and serve."""
        died = True
        self._emitter.start()
        give_back = self._device.set_limits()
        try:
            self._serve()
            died = False
        finally:
            failure = self.failure or (DEATH if died else None)
            self._end(failure=failure)
            self._emitter.close()
            # If that was while loading, somebody waits for it.
            self._loaded.put(EngineError(failure or DEATH))
            self._ended.set()
            self._team.close(failed=died)
            for sequence in self.scheduler.retire():
                sequence.cache = None  # whoever still has the sequence does not keep its memory
            self.prefixes.clear()
            mx.clear_cache()
            give_back()

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
            except Exception:  # a failed step must not take the engine down with it
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
        # One that is paused must not come back while its last token is still on its way.
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
            self._reports.report(before.segments, self._status())
        return step

    def _make_room(self) -> None:
        """Take out what has ended, and idle prompts when there are requests."""
        for sequence in self.scheduler.unfinished():
            if sequence.expired:
                sequence.finish("timeout")
        self._keep(self.scheduler.retire())
        if self.scheduler.waiting:
            self._keep(self.scheduler.interrupt_idle())

    def _pace(self, decoder: Decoder, folder: Path) -> None:
        fingerprint, largest = self._checkpoint.fingerprint, self.scheduler.prefill_tokens
        costs = known_step_costs(
            decoder, fingerprint=fingerprint, largest=largest, folder=folder, ranks=self._team.size
        )
        self.scheduler.pace(costs)

    def _start(self, decoder: Decoder, sequence: Sequence) -> None:
        precision = sequence.precision
        cache = known_beginning(sequence, self.scheduler, self.prefixes) or decoder.make_cache(
            bits=precision.bits, start=precision.start
        )
        cache.reserve(len(sequence.ids))
        sequence.start(cache)

    def _keep(self, sequences: list[Sequence]) -> None:
        """Store the KV of sequences that have ended, were interrupted or paused."""
        for sequence in sequences:
            released = sequence.release()
            if released is not None:
                # As long as it is lazy, a storage that was cut keeps the whole one alive.
                mx.async_eval(released[1].arrays)
                self.prefixes.put(*released)

    def _status(self) -> EngineStatus:
        return EngineStatus(
            alive=True,
            running=len(self.scheduler.running),
            waiting=len(self.scheduler.waiting),
            kv_running_bytes=self.scheduler.kv_bytes,
            kv_stored_bytes=self.prefixes.nbytes,
            kv_limit_bytes=self.scheduler.kv_limit,
        )

    def _read_inbox(self, *, block: bool) -> bool:
        """Act on the messages that have come; wait for one when there is nothing else to do."""
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
        """Wait for a message. After some rest, finished KV goes to disk until one comes."""
        if self.prefixes.unsaved:
            message = self._inbox.get(timeout=REST_SECONDS)
            if message is not None:
                return message
            self.prefixes.save(stop=lambda: len(self._inbox) > 0)
        return self._inbox.get()

    def _handle(self, message: Message | None) -> bool:
        match message:
            case Submit(sequence):
                self.scheduler.add(sequence)
            case Cancel(sequence):
                sequence.finish("cancelled")
            case Stop(sequence, tokens):
                sequence.stop(tokens)
            case CloseReasoning(sequence):
                sequence.answer_now()
            case Forget():
                self._keep(self.scheduler.retire())  # what has just ended goes too
                self.prefixes.clear()
        return not isinstance(message, Close)

    def _give_up(self, message: str) -> None:
        """End what a failed step may have had to do with; those that wait have lost nothing."""
        for sequence in self.scheduler.begun() or self.scheduler.unfinished():
            sequence.fail(message)
        self.prefixes.clear()  # it may hold KV that the step was to compute

    def _lose(self, failure: str) -> None:
        """Another thread says that a rank is lost. A step may raise now, or never end."""
        self.failure = failure
        self._lost.set()
        self._inbox.close()
        if not self._ended.wait(ENDING_SECONDS):
            # The thread hangs inside MLX, so nobody else touches the requests.
            self._end(failure=failure)
            self._emitter.flush()
            self._loaded.put(EngineError(failure))

    def _end(self, *, failure: str | None = None) -> None:
        """Whatever ended the thread: nobody waits for events that will not come."""
        for message in self._inbox.end():
            if isinstance(message, Submit):
                self.scheduler.add(message.sequence)
        for sequence in self.scheduler.unfinished():
            if failure is None:
                sequence.finish("cancelled")
            else:
                sequence.fail(failure)
