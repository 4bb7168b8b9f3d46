"""Converting the weights, tensor by tensor, from where an earlier run stopped."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import mlx.core as mx

from magistral_mlx.convert.output.journal import ConversionJournal, FinishedTensor, read_finished
from magistral_mlx.convert.output.output_folder import Workplace
from magistral_mlx.convert.output.shards import ShardWriter, wrong_tensors
from magistral_mlx.convert.plan import ConversionPlan
from magistral_mlx.convert.progress import NoteCallback, Progress, ProgressCallback
from magistral_mlx.convert.rounding.calibration import Calibrator
from magistral_mlx.convert.rounding.rounder import Rounder
from magistral_mlx.convert.rounding.stored_form import ErrorMeter, stored_as, stored_names
from magistral_mlx.convert.sources.read_ahead import RowBlock, read_ahead
from magistral_mlx.convert.sources.source import SourceTensor, tensor_bytes
from magistral_mlx.errors import CheckpointError

MOST_WAITING = 2
"""Rounded blocks in memory that are not written yet."""


def write_weights(
    plan: ConversionPlan,
    place: Workplace,
    *,
    on_progress: ProgressCallback | None,
    on_note: NoteCallback,
) -> dict[str, FinishedTensor]:
    """Convert the tensors that the journal does not list; returns all tensors of the source.

    Raises CheckpointError when the source cannot be read or a written byte reads back wrong, and
    OSError when the disk is full.
    """
    finished = _finished_before(plan, place, on_note)
    pending = [tensor for tensor in plan.source.tensors if tensor.name not in finished]
    with (
        ConversionJournal(place.journal, plan.task) as journal,
        ShardWriter(place.model, plan.shards) as writer,
        closing(BlockWriter(plan, journal, writer, finished)) as blocks,
    ):
        _convert(pending, plan, place.model, blocks, on_progress)
        blocks.wait()
        writer.sync()
        journal.sync()
    wrong = wrong_tensors(plan.places(place.model), _digests(finished))
    if wrong:
        raise CheckpointError(
            f"{place.model} does not read back as it was written ({wrong[0]}): check the disk and "
            "run this again."
        )
    return finished


def _finished_before(
    plan: ConversionPlan, place: Workplace, on_note: NoteCallback
) -> dict[str, FinishedTensor]:
    """The tensors of earlier runs whose checksums are right on disk."""
    finished = read_finished(place.journal)
    if not finished:
        return {}
    wrong = set(wrong_tensors(plan.places(place.model), _digests(finished)))
    kept = {name: done for name, done in finished.items() if not wrong & done.digests.keys()}
    on_note(f"Resuming: {len(kept)} of {len(plan.source.tensors)} tensors are already converted.")
    if len(kept) < len(finished):
        on_note(
            f"{len(finished) - len(kept)} tensors were incomplete on disk; converting them again."
        )
    return kept


def _digests(finished: dict[str, FinishedTensor]) -> dict[str, str]:
    return {name: digest for done in finished.values() for name, digest in done.digests.items()}


def _convert(
    tensors: list[SourceTensor],
    plan: ConversionPlan,
    folder: Path,
    blocks: "BlockWriter",
    on_progress: ProgressCallback | None,
) -> None:
    """Round block after block, while others are read ahead and written behind."""
    calibrator = None
    if plan.calibration is not None:
        calibrator = Calibrator(plan.config, plan.calibration, plan.places(folder))
    rounder = Rounder(
        plan.config, rtn=plan.recipe.rtn, importance=plan.importance, calibrator=calibrator
    )
    total = sum(map(tensor_bytes, plan.source.tensors))
    done = total - sum(map(tensor_bytes, tensors))
    for block, rows in read_ahead(tensors, readers=plan.source.readers):
        if calibrator is not None and block.start == 0:
            blocks.wait()  # the calibrator reads what is written so far
        blocks.write(block, *rounder.stored(block, rows))
        done += block.nbytes
        if on_progress is not None:
            on_progress(Progress(done, total, block.tensor.name))


class BlockWriter:
    """Measures, hashes and writes rounded blocks in a thread, while the next are rounded."""

    def __init__(
        self,
        plan: ConversionPlan,
        journal: ConversionJournal,
        writer: ShardWriter,
        finished: dict[str, FinishedTensor],
    ) -> None:
        """finished: gets every tensor that is completely written, by name."""
        self._plan = plan
        self._journal = journal
        self._writer = writer
        self._finished = finished
        self._meter: ErrorMeter | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="block-writer")
        self._waiting: deque[Future[None]] = deque()

    def write(self, block: RowBlock, weights: mx.array, stored: tuple[mx.array, ...]) -> None:
        """Take the next block, evaluated. Raises the error of this or an earlier block."""
        self._waiting.append(self._thread.submit(self._write, block, weights, stored))
        self.wait(most=MOST_WAITING)

    def wait(self, *, most: int = 0) -> None:
        """Wait until at most `most` blocks are left. Raises OSError when the disk is full."""
        while len(self._waiting) > most:
            self._waiting.popleft().result()

    def close(self) -> None:
        """Write the blocks that were taken, and end the thread."""
        self._thread.submit(mx.clear_streams)  # without it, MLX may abort the process
        self._thread.shutdown()

    def _write(self, block: RowBlock, weights: mx.array, stored: tuple[mx.array, ...]) -> None:
        quantization = stored_as(block.tensor, self._plan.config)
        names = stored_names(block.tensor.name, quantization)
        if block.start == 0:
            self._meter = None if quantization is None else ErrorMeter(quantization)
        if self._meter is not None:
            self._meter.add(weights, stored)
        for name, part in zip(names, stored, strict=True):
            self._writer.append(name, part)
        if block.is_last:
            self._finish(block.tensor.name, self._writer.close_tensors(names))

    def _finish(self, name: str, digests: dict[str, str]) -> None:
        done = FinishedTensor(name, digests, None if self._meter is None else self._meter.error)
        self._journal.record(done)
        self._finished[name] = done
        # Otherwise freed buffers of every tensor shape pile up.
        mx.clear_cache()
