"""The weights of a conversion: from where an earlier run stopped, tensor by tensor."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from magistral_mlx.convert.keeper import Keeper
from magistral_mlx.convert.output.checksums import wrong_tensors
from magistral_mlx.convert.output.journal import Finished, Journal, read_finished
from magistral_mlx.convert.output.output_folder import Workplace
from magistral_mlx.convert.output.shards import ShardWriter
from magistral_mlx.convert.plan import ConversionPlan
from magistral_mlx.convert.rounding.calibration import Calibrator
from magistral_mlx.convert.rounding.progress import Progress, ProgressCallback
from magistral_mlx.convert.rounding.rounding import Rounding
from magistral_mlx.convert.sources.read_ahead import read_ahead
from magistral_mlx.convert.sources.source import SourceTensor, tensor_bytes
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
        closing(Keeper(plan, journal, writer, finished)) as keeper,
    ):
        _convert(pending, plan, _rounding(plan, place.model), keeper, on_progress)
        keeper.wait()
        writer.sync()
        journal.sync()
    _check_written(plan, place.model, finished)
    return finished


def _rounding(plan: ConversionPlan, folder: Path) -> Rounding:
    calibrator = None
    if plan.calibration is not None:
        # Reads the output back as it grows.
        calibrator = Calibrator(plan.config, plan.calibration, plan.places(folder))
    return Rounding(plan.settings, importance=plan.importance, calibrator=calibrator)


def _convert(
    tensors: list[SourceTensor],
    plan: ConversionPlan,
    rounding: Rounding,
    keeper: Keeper,
    on_progress: ProgressCallback | None,
) -> None:
    """Round block after block, while others are read and the ones before are kept."""
    total = sum(map(tensor_bytes, plan.source.tensors))
    done = total - sum(map(tensor_bytes, tensors))
    for block, rows in read_ahead(tensors, readers=plan.source.readers):
        if plan.calibration is not None and block.start == 0:
            keeper.wait()  # it reads back what was stored so far
        weights, stored = rounding.stored(block, rows, plan.quantization(block.tensor))
        keeper.keep(block, weights, stored)
        done += block.nbytes
        if on_progress is not None:
            on_progress(Progress(done, total, block.tensor.name))


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
