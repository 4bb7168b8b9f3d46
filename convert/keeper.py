"""What becomes of rounded blocks: measured, added up and written while the next are rounded."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import mlx.core as mx

from magistral_mlx.convert.output.journal import Finished, Journal
from magistral_mlx.convert.output.shards import ShardWriter
from magistral_mlx.convert.plan import ConversionPlan
from magistral_mlx.convert.rounding.weight_error import ErrorMeter
from magistral_mlx.convert.sources.read_ahead import Block

MOST_WAITING = 2
"""Rounded blocks in memory that are not written yet."""


class Keeper:
    """Measures rounded blocks, adds their checksums up and writes them, in a thread of its own."""

    def __init__(
        self,
        plan: ConversionPlan,
        journal: Journal,
        writer: ShardWriter,
        finished: dict[str, Finished],
    ) -> None:
        """finished: gets every tensor that is stored whole, by name."""
        self._plan = plan
        self._journal = journal
        self._writer = writer
        self._finished = finished
        self._meter: ErrorMeter | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keeper")
        self._waiting: deque[Future[None]] = deque()

    def keep(self, block: Block, weights: mx.array, stored: tuple[mx.array, ...]) -> None:
        """Take the next block, evaluated. Raises what has gone wrong with it or those before."""
        self._waiting.append(self._thread.submit(self._keep, block, weights, stored))
        self.wait(most=MOST_WAITING)

    def wait(self, *, most: int = 0) -> None:
        """Until at most so many blocks are left. Raises OSError when the disk is full or fails."""
        while len(self._waiting) > most:
            self._waiting.popleft().result()

    def close(self) -> None:
        """Keep what was taken, also when the conversion was interrupted, and end the thread."""
        self._thread.submit(mx.clear_streams)  # MLX may abort the process of a thread without it
        self._thread.shutdown()

    def _keep(self, block: Block, weights: mx.array, stored: tuple[mx.array, ...]) -> None:
        names = self._plan.stored_names(block.tensor)
        if block.start == 0:
            quantization = self._plan.quantization(block.tensor)
            self._meter = None if quantization is None else ErrorMeter(quantization)
        if self._meter is not None:
            self._meter.add(weights, stored)
        for name, part in zip(names, stored, strict=True):
            self._writer.append(name, part)
        if block.is_last:
            self._finish(block.tensor.name, self._writer.close_tensors(names))

    def _finish(self, name: str, digests: dict[str, str]) -> None:
        done = Finished(name, digests, None if self._meter is None else self._meter.error)
        self._journal.record(done)
        self._finished[name] = done
        # Freed buffers of this tensor's shape would otherwise pile up, shape by shape.
        mx.clear_cache()
