"""The weights of a conversion: from where an earlier run stopped, tensor by tensor."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx

from magistral_mlx.convert.checksums import wrong_tensors
from magistral_mlx.convert.journal import Finished, Journal, read_finished
from magistral_mlx.convert.output_folder import Workplace
from magistral_mlx.convert.plan import ConversionPlan
from magistral_mlx.convert.progress import Progress, ProgressCallback
from magistral_mlx.convert.read_ahead import read_ahead
from magistral_mlx.convert.rounding import Rounding
from magistral_mlx.convert.shards import ShardWriter
from magistral_mlx.convert.source import SourceTensor, tensor_bytes
from magistral_mlx.convert.weight_error import ErrorMeter
from magistral_mlx.errors import CheckpointError

NoteCallback = Callable[[str], None]
"""Called with a sentence that the person who converts should read."""


def write_weights(
    plan: ConversionPlan,
    place: Workplace,
    *,
    on_progress: ProgressCallback | None,
    on_note: NoteCallback,
) -> dict[str, Finished]:
    """Convert what the journal does not list; what was stored for every tensor of the source.

    Raises CheckpointError when the source cannot be read or a written byte reads back wrong, and
    OSError when the disk is full.
    """
    finished = _finished_before(plan, place, on_note)
    pending = [tensor for tensor in plan.source.tensors if tensor.name not in finished]
    with (
        Journal(place.journal, plan.task) as journal,
        ShardWriter(place.model, plan.shards) as writer,
    ):
        run = _Run(plan, place, journal, writer, on_progress, finished)
        run.convert(pending)
        writer.sync()
        journal.sync()
    _check_written(plan, place.model, finished)
    return finished


class _Run:
    """One run over the tensors that are left."""

    def __init__(
        self,
        plan: ConversionPlan,
        place: Workplace,
        journal: Journal,
        writer: ShardWriter,
        on_progress: ProgressCallback | None,
        finished: dict[str, Finished],
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._writer = writer
        self._on_progress = on_progress
        self._finished = finished
        self._rounding = Rounding(plan, place.model)
        self._total = sum(map(tensor_bytes, plan.source.tensors))
        self._done = sum(
            tensor_bytes(tensor) for tensor in plan.source.tensors if tensor.name in finished
        )

    def convert(self, tensors: list[SourceTensor]) -> None:
        meter: ErrorMeter | None = None
        for block, rows in read_ahead(tensors, readers=self._plan.source.readers):
            tensor, quantization = block.tensor, self._plan.quantization(block.tensor)
            if block.start == 0:
                meter = None if quantization is None else ErrorMeter(quantization)
            weights, stored = self._rounding.stored(block, rows, quantization)
            if meter is not None:
                meter.add(weights, stored)
            for name, part in zip(self._plan.stored_names(tensor), stored, strict=True):
                self._writer.append(name, part)
            if block.is_last:
                self._finish(tensor, meter)
            self._done += block.nbytes
            if self._on_progress is not None:
                self._on_progress(Progress(self._done, self._total, tensor.name))

    def _finish(self, tensor: SourceTensor, meter: ErrorMeter | None) -> None:
        digests = self._writer.close_tensors(self._plan.stored_names(tensor))
        done = Finished(tensor.name, digests, None if meter is None else meter.error)
        self._journal.record(done)
        self._finished[tensor.name] = done
        # Freed buffers of this tensor's shape would otherwise pile up, shape by shape.
        mx.clear_cache()


def _finished_before(
    plan: ConversionPlan, place: Workplace, on_note: NoteCallback
) -> dict[str, Finished]:
    """What earlier runs have finished and the disk still holds, by checksum."""
    finished = read_finished(place.journal)
    if not finished:
        return {}
    digests = {name: value for done in finished.values() for name, value in done.digests.items()}
    wrong = set(wrong_tensors(plan.places(place.model), digests))
    kept = {name: done for name, done in finished.items() if not wrong & done.digests.keys()}
    on_note(f"Going on: {len(kept)} of {len(plan.source.tensors)} tensors were converted before.")
    if len(kept) < len(finished):
        on_note(f"{len(finished) - len(kept)} of them did not reach the disk whole: again.")
    return kept


def _check_written(plan: ConversionPlan, folder: Path, finished: dict[str, Finished]) -> None:
    digests = {name: value for done in finished.values() for name, value in done.digests.items()}
    wrong = wrong_tensors(plan.places(folder), digests)
    if wrong:
        raise CheckpointError(
            f"{folder} does not read back as it was written ({wrong[0]}): check the disk and run "
            "this again."
        )
