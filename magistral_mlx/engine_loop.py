"""The thread that owns the model and every MLX array: it takes messages and runs steps."""

import logging
import queue
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from magistral_mlx.checkpoint import Checkpoint
from magistral_mlx.engine_status import EngineStatus, StepReport
from magistral_mlx.errors import UserError
from magistral_mlx.inbox import AnswerNow, Cancel, Close, Forget, Inbox, Message, Submit
from magistral_mlx.kv_cache import KVCache
from magistral_mlx.model import Decoder, load_decoder
from magistral_mlx.prefix_cache import LEAST_TOKENS, REST_SECONDS, PrefixCache
from magistral_mlx.scheduler import Scheduler, shared_tokens
from magistral_mlx.sequence import Sequence
from magistral_mlx.step import Step, dispatch, settle
from magistral_mlx.step_costs import known_step_costs
from magistral_mlx.stream import EngineError

DEATH = "The engine has died: open the model again."

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """What the thread asks of MLX.

    dtype: to compute in; None: the checkpoint's, or float32 on the CPU.
    spare_bytes: most freed memory that MLX keeps for the next arrays; None: as MLX likes.
    wired_bytes: that macOS must not page out; None: MLX's wired limit is left alone.
    """

    dtype: mx.Dtype | None = None
    spare_bytes: int | None = None
    wired_bytes: int | None = None


class EngineLoop:
    """Takes messages and advances the scheduled sequences, until it is told to close.

    `run` is the thread's function. Others may read `status`, and nothing else.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        inbox: Inbox,
        scheduler: Scheduler,
        prefixes: PrefixCache,
        device: DeviceOptions,
        costs_folder: Path | None,
        on_step: Callable[[StepReport], None] | None,
    ) -> None:
        """See Engine."""
        self.scheduler = scheduler
        self.prefixes = prefixes
        self.status = self._status()
        self._checkpoint = checkpoint
        self._inbox = inbox
        self._device = device
        self._costs_folder = costs_folder
        self._on_step = on_step
        self._step_began = 0.0

    def run(self, loaded: "queue.SimpleQueue[BaseException | None]") -> None:
        """Load the model, tell in `loaded` how that went, and serve."""
        died = True
        give_back = self._set_device_limits()
        try:
            self._serve(loaded)
            died = False
        finally:
            self._end(failure=DEATH if died else None)
            loaded.put(EngineError(DEATH))  # if that was while loading, somebody waits for it
            for sequence in self.scheduler.retire():
                sequence.cache = None  # whoever still has the sequence does not keep its memory
            self.prefixes.clear()
            mx.clear_cache()
            give_back()
            # What MLX keeps for a thread must go before the thread does, or the process aborts.
            mx.clear_streams()

    def load(self, checkpoint: Checkpoint, dtype: mx.Dtype | None) -> Decoder:
        """The model; bench overrides it to run shapes without a checkpoint's weights."""
        return load_decoder(checkpoint, dtype=dtype)

    def _set_device_limits(self) -> Callable[[], None]:
        """They are the whole process's, so what is returned sets them back."""
        limits = ExitStack()
        if self._device.spare_bytes is not None:
            limits.callback(mx.set_cache_limit, mx.set_cache_limit(self._device.spare_bytes))
        if self._device.wired_bytes is not None:
            limits.callback(mx.set_wired_limit, mx.set_wired_limit(self._device.wired_bytes))
        return limits.close

    def _serve(self, loaded: "queue.SimpleQueue[BaseException | None]") -> None:
        try:
            decoder = self.load(self._checkpoint, self._device.dtype)
            if self._costs_folder is not None:
                self._pace(decoder, self._costs_folder)
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
            self.status = self._status()
        self._end()
        self._keep(self.scheduler.retire())
        self.prefixes.close()

    def _advance(self, decoder: Decoder, before: Step | None) -> Step | None:
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
        shares = self.scheduler.plan()
        if before is None:
            self._step_began = time.perf_counter()
        step = dispatch(decoder, shares, before) if shares else None
        if before is not None:
            settle(before, after=step)
            self._report(before)
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
        costs = known_step_costs(decoder, fingerprint=fingerprint, largest=largest, folder=folder)
        self.scheduler.pace(costs)

    def _start(self, decoder: Decoder, sequence: Sequence) -> None:
        precision = sequence.precision
        cache = self._known_beginning(sequence) or decoder.make_cache(
            bits=precision.bits, start=precision.start
        )
        cache.reserve(len(sequence.ids))
        sequence.start(cache)

    def _known_beginning(self, sequence: Sequence) -> KVCache | None:
        """KV of the longest beginning that is stored or that a running sequence has."""
        ids, precision = sequence.ids, sequence.precision
        running = [s for s in self.scheduler.running if s is not sequence and _has(s, precision)]
        lengths = [_reusable(ids, other) for other in running]
        best = max(lengths, default=0)
        if best > max(LEAST_TOKENS, self.prefixes.longest(ids, precision=precision)):
            cache = running[lengths.index(best)].cache
            return cache.copy(best) if cache is not None else None
        others = [other.ids for other in self.scheduler.waiting if other.precision == precision]
        return self.prefixes.take(
            ids,
            others=others,
            cut=sequence.request.priority == "idle",
            brief=len(self.scheduler.running) > 1,
            precision=precision,
        )

    def _keep(self, sequences: list[Sequence]) -> None:
        """Store the KV of sequences that have ended, were interrupted or paused."""
        for sequence in sequences:
            released = sequence.release()
            if released is not None:
                # As long as it is lazy, a storage that was cut keeps the whole one alive.
                mx.async_eval(released[1].arrays)
                self.prefixes.put(*released)

    def _report(self, step: Step) -> None:
        now = time.perf_counter()
        seconds, self._step_began = now - self._step_began, now
        if self._on_step is None:
            return
        status = self._status()
        known = sum(share.tokens for share in step.shares)
        report = StepReport(
            seconds=seconds,
            prefill_tokens=known,
            decode_tokens=sum(share.tokens == 0 for share in step.shares),
            running=status.running,
            waiting=status.waiting,
            kv_bytes=status.kv_running_bytes + status.kv_stored_bytes,
        )
        try:
            self._on_step(report)
        except Exception:  # whatever the function raises, the requests go on
            logger.exception("The receiver of step reports failed; it gets no more of them.")
            self._on_step = None

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
        if block and not self.scheduler.unfinished():
            self._keep(self.scheduler.retire())
            mx.clear_cache()
            self.status = self._status()
            if not self._handle(self._next_message()):
                return False
            mx.reset_peak_memory()
        while len(self._inbox):
            if not self._handle(self._inbox.get()):
                return False
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
            case AnswerNow(sequence):
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


def _has(sequence: Sequence, precision: object) -> bool:
    return sequence.cache is not None and sequence.precision == precision


def _reusable(ids: list[int], other: Sequence) -> int:
    """Tokens of these ids that another sequence has KV for; the last is always left to run."""
    assert other.cache is not None
    return min(shared_tokens(ids, other.ids), other.cache.length, len(ids) - 1)
