"""The conversion: check everything, convert the weights, verify, and give the folder its name."""

from math import prod
from pathlib import Path

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import INDEX_FILE, open_checkpoint
from magistral_mlx.checkpoint.weight_shapes import plain_shapes
from magistral_mlx.convert.model_card import model_card
from magistral_mlx.convert.options import ConversionOptions, default_output
from magistral_mlx.convert.output.journal import check_task, read_task
from magistral_mlx.convert.output.manifest import MANIFEST_FILE, manifest_json
from magistral_mlx.convert.output.model_files import (
    config_json,
    file_digest,
    write_json,
    write_model_files,
    write_tokenizer_files,
)
from magistral_mlx.convert.output.output_folder import (
    Workplace,
    check_output,
    check_space,
    locked,
    publish,
    start_over,
)
from magistral_mlx.convert.output.shards import SHARD_BYTES, index_json
from magistral_mlx.convert.plan import ConversionPlan, plan_conversion
from magistral_mlx.convert.progress import NoteCallback, ProgressCallback
from magistral_mlx.convert.rounding.calibration import calibration_note
from magistral_mlx.convert.rounding.rounder import NotFiniteError
from magistral_mlx.convert.sources.open_source import needs_fetched, open_source, source_path
from magistral_mlx.convert.weights import write_weights
from magistral_mlx.device import on_cpu
from magistral_mlx.errors import CheckpointError
from magistral_mlx.machine import machine_limit
from magistral_mlx.memory.byte_counts import weight_bytes
from magistral_mlx.memory.needs import Workload
from magistral_mlx.memory.plan import MemoryPlanError, gigabytes
from magistral_mlx.memory.plan import plan as plan_memory
from magistral_mlx.spec import HUB_ID

SPARE_BYTES = 64 << 20
"""Disk space beyond the weights, for tokenizer, headers and the file system."""


def convert(
    source: str | Path = HUB_ID,
    output: str | Path | None = None,
    options: ConversionOptions | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
    on_progress: ProgressCallback | None = None,
    on_note: NoteCallback | None = None,
) -> Path:
    """Convert a checkpoint to a quantised MLX folder, and return the folder.

    `source` is a folder in the Hugging Face or the Mistral layout, a GGUF file, OWNER/NAME on the
    Hub, or "demo". Weights on the Hub are read by byte range and not stored, unless its cache has
    them or `options.keep_source` is set. `output` defaults to `default_output`; it appears under
    its name only when it is complete and verified. Peak memory is a few hundred MB for a model of
    any size, more with `options.calibrate`.

    An interrupted conversion keeps its finished tensors: the same call resumes, and gives the same
    bytes. `shard_bytes` is the largest size of a weight file. `on_note` receives sentences for the
    user.

    Raises CheckpointError before any work when the source cannot be converted with these options,
    the output cannot be written there, or an interrupted conversion had another source or other
    options; and during the work when a disk fails.
    """
    options = options or ConversionOptions()
    options.chosen_recipe()  # refuses wrong options before anything is read
    notes = on_note or (lambda note: None)
    if output is None:
        output = default_output(source, bits=options.bits, recipe=options.recipe)
    place = Workplace(Path(output).expanduser().resolve())
    if not place.is_published:
        check_output(place.output, source_path(source), force=options.force)
    # Without small files to fetch, a refusal leaves no trace on the disk.
    early = None if needs_fetched(source) else _plan(source, options, place, shard_bytes)
    try:
        with locked(place):
            plan = early or _plan(source, options, place, shard_bytes)
            if place.is_published and read_task(place.journal) == plan.task:
                return place.output
            check_output(place.output, None, force=options.force)
            if options.restart or place.is_published or read_task(place.journal) is None:
                start_over(place)
            check_task(place.journal, plan.task, place.output)
            _announce(plan, notes)
            _write(plan, place, on_progress, notes)
            publish(place)
    except OSError as error:
        raise CheckpointError(
            f"{place.output} could not be written ({error.strerror}): make room or choose another "
            "folder. What is finished is kept."
        ) from error
    return place.output


def _plan(
    source: str | Path, options: ConversionOptions, place: Workplace, shard_bytes: int
) -> ConversionPlan:
    opened = open_source(
        source,
        fetched=place.fetched,
        revision=options.revision,
        keep_source=options.keep_source,
        tokenizer=options.tokenizer,
    )
    plan = plan_conversion(opened, options, shard_bytes=shard_bytes)
    check_space(place.output, plan.nbytes + SPARE_BYTES)
    return plan


def _announce(plan: ConversionPlan, on_note: NoteCallback) -> None:
    for note in plan.source.notes:
        on_note(note)
    on_note(_size_note(plan.config, plan.recipe.name))
    if plan.calibration is not None:
        on_note(calibration_note(plan.config, plan.calibration))


def _size_note(config: ModelConfig, recipe: str) -> str:
    """One line: bytes, bits per weight, and the window that fits this machine."""
    nbytes = weight_bytes(config, config.dtype)
    weights = sum(prod(shape) for shape in plain_shapes(config).values())
    size = f"{recipe}: {gigabytes(nbytes)}, {8 * nbytes / weights:.2f} bits per weight."
    try:
        fit = plan_memory(config, machine_limit(), Workload(on_gpu=not on_cpu()))
    except MemoryPlanError as error:
        return f"{size} {error}"
    return (
        f"{size} On this machine ({gigabytes(fit.limit)}): a window of {fit.window:,} tokens, "
        f"KV cache {gigabytes(fit.kv)} at {fit.kv_bits} bits, {gigabytes(fit.headroom)} left."
    )


def _write(
    plan: ConversionPlan,
    place: Workplace,
    on_progress: ProgressCallback | None,
    on_note: NoteCallback,
) -> None:
    # The tokenizer first: it may be refused, and it needs the memory that weights take later.
    write_tokenizer_files(place.model, plan.source, plan.vocabulary)
    try:
        finished = write_weights(plan, place, on_progress=on_progress, on_note=on_note)
    except NotFiniteError:
        start_over(place)  # resuming would fail again
        raise
    parameters = sum(prod(tensor.shape) for tensor in plan.source.tensors)
    write_json(place.model / INDEX_FILE, index_json(plan.shards, parameters=parameters))
    file_digests = write_model_files(
        place.model,
        config=config_json(plan.source, plan.config, plan.vocabulary),
        vocabulary=plan.vocabulary,
        card=model_card(plan, finished),
    )
    manifest = manifest_json(
        plan.source, plan.settings, plan.shards, finished=finished, file_digests=file_digests
    )
    write_json(place.model / MANIFEST_FILE, manifest)
    _verify(plan, place.model)


def _verify(plan: ConversionPlan, folder: Path) -> None:
    """Open the output, and compare config and tokenizer with the plan's."""
    checkpoint = open_checkpoint(folder)
    if checkpoint.config != plan.config:
        raise CheckpointError(
            f"{folder} reads back as {checkpoint.config} instead of {plan.config}: report this."
        )
    before, after = plan.source.tokenizer_file, checkpoint.tokenizer_file
    if file_digest(before) != file_digest(after):
        raise CheckpointError(f"{before} changed while it was copied: run this again.")
