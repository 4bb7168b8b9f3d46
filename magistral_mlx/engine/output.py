"""Outputs on their way to the receivers, and the thread that makes text of their tokens."""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from magistral_mlx.events import Event, Failed, Finished, PrefillProgress
from magistral_mlx.text.output_text import OutputEvents, OutputToken
from magistral_mlx.text.reasoning import SplitBytes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OutputEnd:
    """The end of an output, with the bytes that the splitter held back until then."""

    pieces: list[SplitBytes]
    event: Finished


OutputItem = PrefillProgress | OutputToken | OutputEnd | Failed


class EmittedOutput:
    """One request's events, in order. Only the emitter's thread uses it."""

    def __init__(
        self,
        receiver: Callable[[Event], None],
        *,
        stop: tuple[str, ...],
        on_stop: Callable[[int], Finished],
        on_failure: Callable[[], None],
    ) -> None:
        """Emit events to `receiver`.

        stop: the stop strings.
        on_stop: gets the number of tokens up to a stop string; returns the last event.
        on_failure: called when the receiver fails, after which it gets no more events.
        """
        self.has_stop_strings = bool(stop)
        self._receiver = receiver
        self._text = OutputEvents(stop=stop)
        self._on_stop = on_stop
        self._on_failure = on_failure
        self._tokens = 0
        self._ended = False

    def take(self, item: OutputItem) -> None:
        """Emit the events of the next item. After the last event, items are ignored."""
        if self._ended:
            return
        try:
            events = self._events(item)
        except Exception:  # a fault in one output must not end the others
            logger.exception("The text of a request failed; the request has ended.")
            events = [Failed("The text of this request failed: the log says why.")]
            self._on_failure()
        for event in events:
            self._emit(event)

    def _events(self, item: OutputItem) -> list[Event]:
        if isinstance(item, OutputToken):
            self._tokens += 1
            events: list[Event] = [*self._text.push(item)]
            if self._text.stop_string is not None:
                events.append(self._with_stop_string(self._on_stop(self._tokens)))
            return events
        if isinstance(item, OutputEnd):
            return [*self._text.finish(item.pieces), self._with_stop_string(item.event)]
        return [item]

    def _with_stop_string(self, end: Finished) -> Finished:
        return replace(end, stop_string=self._text.stop_string)

    def _emit(self, event: Event) -> None:
        if self._ended:
            return
        self._ended = isinstance(event, Finished | Failed)
        try:
            self._receiver(event)
        except Exception:  # a receiver is the caller's code
            logger.exception("The receiver of a request's events failed; the request has ended.")
            self._ended = True
            self._on_failure()


class Emitter:
    """Runs outputs on a thread beside the engine's, at most one step behind it.

    The engine's thread adds items and hands them over with `flush` after every step.
    """

    def __init__(self) -> None:
        self._batch: list[tuple[EmittedOutput, OutputItem]] = []
        self._batches: queue.SimpleQueue[list[tuple[EmittedOutput, OutputItem]] | None] = (
            queue.SimpleQueue()
        )
        self._idle = threading.Semaphore()  # taken while a batch is on its way
        self.thread = threading.Thread(target=self._run, name="magistral-emitter", daemon=True)

    def add(self, output: EmittedOutput, item: OutputItem) -> None:
        """Add an item to the next batch."""
        self._batch.append((output, item))

    def flush(self) -> None:
        """Hand over the batch, after the one before it is done.

        If the batch may hold a stop string, wait for it: then the sequence ends before the next
        step is scheduled.
        """
        batch, self._batch = self._batch, []
        if not batch:
            return
        self._idle.acquire()
        self._batches.put(batch)
        if any(output.has_stop_strings for output, _ in batch):
            with self._idle:
                pass

    def close(self) -> None:
        """Emit what is left and end the thread."""
        self.flush()
        self._batches.put(None)
        self.thread.join()

    def _run(self) -> None:
        while self._emit_batch():
            pass

    def _emit_batch(self) -> bool:
        """Emit the next batch; False at the end. Waiting for it, nothing holds an old batch."""
        batch = self._batches.get()
        for output, item in batch or []:
            output.take(item)
        if batch is not None:
            self._idle.release()
        return batch is not None
