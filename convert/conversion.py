"""The conversion: check everything, stream the weights, verify, publish."""

from collections.abc import Sequence
from hashlib import sha256
from math import prod
from pathlib import Path

from magistral_mlx.checkpoint.folder import INDEX_FILE, open_checkpoint
from magistral_mlx.convert.model_card import model_card
from magistral_mlx.convert.output.journal import Finished, check_task, read_task
from magistral_mlx.convert.output.manifest import MANIFEST_FILE, manifest_json
from magistral_mlx.convert.output.model_files import (
    config_json,
    write_json,
    write_model_files,
    write_tokenizer_files,
)
from magistral_mlx.convert.output.output_folder import (
    Workplace,
    begin_anew,
    check_output,
    check_space,
    locked,
    publish,
)
from magistral_mlx.convert.output.shards import SHARD_BYTES, index_json
from magistral_mlx.convert.plan import ConversionPlan, make_plan
from magistral_mlx.convert.rounding.calibration import calibration_note
from magistral_mlx.convert.rounding.progress import ProgressCallback
from magistral_mlx.convert.rounding.recipe import recipe_of
from magistral_mlx.convert.rounding.rounder import NotFiniteError
from magistral_mlx.convert.rounding.settings import Settings
from magistral_mlx.convert.size_note import size_note
from magistral_mlx.convert.sources.hub import hub_name
from magistral_mlx.convert.sources.locations import default_output
from magistral_mlx.convert.sources.open_source import is_gguf, open_source, source_path
from magistral_mlx.convert.weights import NoteCallback, write_weights
from magistral_mlx.errors import CheckpointError
from magistral_mlx.spec import HUB_ID

SPARE_BYTES = 64 << 20
"""Room on the disk beyond the weights: tokenizer, headers, the file system's own."""


def convert(
    source: str | Path = HUB_ID,
    output: str | Path | None = None,
    *,
    bits: int = 4,
    group_size: int = 64,
    recipe: str | None = None,
    target_bits: float | None = None,
    modules: Sequence[str] = (),
    rtn: bool = False,
    importance: Path | None = None,
    calibrate: Path | None = None,
    dtype: str = "bfloat16",
    force: bool = False,
    restart: bool = False,
    revision: str | None = None,
    keep_source: bool = False,
    tokenizer: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
    on_progress: ProgressCallback | None = None,
    on_note: NoteCallback | None = None,
) -> Path:
    """Convert a checkpoint to an MLX folder with quantised matrices, and return the folder.

    `source` is a folder of the Hugging Face or the Mistral layout, a GGUF file (with the
    tekken.json of `tokenizer`, or one rebuilt from its vocabulary), OWNER/NAME on the Hub, or the
    word "demo". What is on the Hub is read at `revision` by byte range and not stored, unless its
    cache has the files, or `keep_source` asks for that. `output` defaults to
    `default_output(source, bits=bits, recipe=recipe)`; it appears under its name only when it is
    complete and verified, and `force` replaces an older one then. Peak memory is a few hundred MB
    whatever the model: a few blocks of rows are in memory at a time.

    `recipe` names how the matrices are stored (recipe.RECIPES) instead of `bits`; `target_bits` is
    for "mixed"; `modules` are exceptions, "PATTERN=RECIPE". Scale and bias of a group are chosen
    for the least squared error; `rtn` rounds plainly, as mlx-lm does. `importance` is a file that
    says what the error of each column counts (importance.write_importance); `calibrate` a text
    that is run through the model layer by layer, so that later columns make up for the error of
    earlier ones. It takes more memory, which a note says, and is better.

    A run that ends early, however, leaves what it has finished: the same call goes on from there
    and gives the same bytes. `restart` begins anew. `on_note` gets sentences for the person.

    Raises CheckpointError, before any work, when the source cannot be converted as asked, the
    output cannot be written there, or a run was begun with another source or other settings; and
    during the work when a disk fails.
    """
    asked = recipe_of(
        recipe, bits=bits, group_size=group_size, target_bits=target_bits, modules=modules
    )
    settings = Settings(asked, dtype, "rtn" if rtn else "optimal")
    fetches = hub_name(source) is not None or is_gguf(source)
    folder = (
        Path(output).expanduser() if output else default_output(source, bits=bits, recipe=recipe)
    )
    place = Workplace(folder.resolve())
    if not place.is_published:
        check_output(place.output, source_path(source), force=force)

    def planned() -> ConversionPlan:
        opened = open_source(
            source,
            fetched=place.fetched,
            revision=revision,
            keep_source=keep_source,
            tokenizer=tokenizer,
        )
        plan = make_plan(
            opened,
            settings,
            shard_bytes=shard_bytes,
            importance=importance,
            calibrate=calibrate,
        )
        check_space(place.output, plan.nbytes + SPARE_BYTES)
        return plan

    # What a folder is refused for leaves nothing behind; small files need the workplace.
    early = None if fetches else planned()
    try:
        with locked(place):
            plan = early or planned()
            if place.is_published and read_task(place.journal) == plan.task:
                return place.output
            check_output(place.output, None, force=force)
            _prepare(plan, place, restart=restart)
            notes = on_note or _nobody
            _tell(plan, notes)
            _write(plan, place, on_progress, notes)
            publish(place)
    except OSError as error:
        raise CheckpointError(
            f"{place.output} could not be written ({error.strerror}): make room or choose another "
            "folder. What is finished is kept."
        ) from error
    return place.output


def _tell(plan: ConversionPlan, on_note: NoteCallback) -> None:
    """What a person should know before the work begins."""
    for note in plan.source.notes:
        on_note(note)
    on_note(size_note(plan.config, plan.settings.recipe.name))
    if plan.calibration is not None:
        on_note(calibration_note(plan.config, plan.calibration))


def _prepare(plan: ConversionPlan, place: Workplace, *, restart: bool) -> None:
    if restart or place.is_published or read_task(place.journal) is None:
        begin_anew(place)
    check_task(place.journal, plan.task, place.output)


def _write(
    plan: ConversionPlan,
    place: Workplace,
    on_progress: ProgressCallback | None,
    on_note: NoteCallback,
) -> None:
    # First, because it may be refused, and before the weights there is most memory for it.
    write_tokenizer_files(place.model, plan.source, plan.vocabulary)
    try:
        finished = write_weights(plan, place, on_progress=on_progress, on_note=on_note)
    except NotFiniteError:
        begin_anew(place)  # going on would end here again
        raise
    _write_small_files(plan, place.model, finished)
    _verify(plan, place.model)


def _write_small_files(plan: ConversionPlan, folder: Path, finished: dict[str, Finished]) -> None:
    parameters = sum(prod(tensor.shape) for tensor in plan.source.tensors)
    write_json(folder / INDEX_FILE, index_json(plan.shards, parameters=parameters))
    config = config_json(plan.source, plan.config, plan.vocabulary)
    file_digests = write_model_files(
        folder,
        config=config,
        vocabulary=plan.vocabulary,
        card=model_card(plan, finished),
    )
    manifest = manifest_json(
        plan.source, plan.settings, plan.shards, finished=finished, file_digests=file_digests
    )
    write_json(folder / MANIFEST_FILE, manifest)


def _verify(plan: ConversionPlan, folder: Path) -> None:
    """What was written opens again, is what was planned, and has the source's tokenizer."""
    checkpoint = open_checkpoint(folder)
    if checkpoint.config != plan.config:
        raise CheckpointError(
            f"{folder} reads back as {checkpoint.config} instead of {plan.config}: report this."
        )
    before, after = plan.source.tokenizer_file, checkpoint.tokenizer_file
    if sha256(before.read_bytes()).digest() != sha256(after.read_bytes()).digest():
        raise CheckpointError(f"{before} changed while it was copied: run this again.")


def _nobody(_: str) -> None:
    """The caller does not want notes."""
