"""The conversion: check everything, stream the weights, verify, publish."""

from dataclasses import dataclass, replace
from hashlib import sha256
from math import prod
from pathlib import Path

from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from magistral_mlx.checkpoint import DTYPE_NAMES, INDEX_FILE, open_checkpoint
from magistral_mlx.convert.locations import default_output
from magistral_mlx.convert.manifest import MANIFEST_FILE, manifest_json
from magistral_mlx.convert.model_files import config_json, write_json, write_model_files
from magistral_mlx.convert.open_source import open_source, source_folder
from magistral_mlx.convert.output_folder import atomic_folder, check_output, check_space
from magistral_mlx.convert.progress import Progress, ProgressCallback
from magistral_mlx.convert.quantise import stored_blocks
from magistral_mlx.convert.settings import Settings
from magistral_mlx.convert.shards import (
    SHARD_BYTES,
    PlannedTensor,
    Shard,
    ShardWriter,
    index_json,
    plan_shards,
)
from magistral_mlx.convert.source import Source, tensor_bytes
from magistral_mlx.convert.tokenizer_check import check_round_trip, open_tekken
from magistral_mlx.errors import CheckpointError
from magistral_mlx.model_config import ModelConfig, Quantization
from magistral_mlx.weight_shapes import is_packed, weight_shapes

SPARE_BYTES = 64 << 20
"""Room on the disk beyond the weights: tokenizer, headers, the file system's own."""


def convert(
    source: str | Path,
    output: str | Path | None = None,
    *,
    bits: int = 4,
    group_size: int = 64,
    dtype: str = "bfloat16",
    force: bool = False,
    shard_bytes: int = SHARD_BYTES,
    on_progress: ProgressCallback | None = None,
) -> Path:
    """Convert a checkpoint to an MLX folder with quantised matrices, and return the folder.

    `source` is a folder of the Hugging Face or the Mistral layout, or the word "demo"; `output`
    defaults to `default_output(source, bits=bits)`. Peak memory is a few hundred MB whatever the
    model: one block of rows is in memory at a time. The output appears under its name only when
    it is complete and verified; `force` replaces an older one then.

    Raises CheckpointError, before any work, when the source cannot be converted as asked or the
    output cannot be written there, and during the work when a disk fails.
    """
    settings = Settings(Quantization(bits=bits, group_size=group_size), dtype)
    folder = Path(output).expanduser() if output else default_output(source, bits=bits)
    folder = folder.resolve()
    check_output(folder, source_folder(source), force=force)
    plan = _plan(open_source(source), settings, shard_bytes=shard_bytes)
    check_space(folder, plan.nbytes + SPARE_BYTES)
    try:
        with atomic_folder(folder) as partial:
            _write(plan, partial, on_progress)
            _verify(plan, partial)
    except OSError as error:
        raise CheckpointError(
            f"{folder} could not be written ({error.strerror}): make room or choose another folder."
        ) from error
    return folder


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that is known before the first weight is read."""

    source: Source
    settings: Settings
    config: ModelConfig
    shards: tuple[Shard, ...]
    tekken: Tekkenizer

    @property
    def nbytes(self) -> int:
        return sum(shard.nbytes for shard in self.shards)


def _plan(source: Source, settings: Settings, *, shard_bytes: int) -> _Plan:
    config = replace(source.config, quantization=settings.quantization, dtype=settings.dtype)
    tekken = open_tekken(source.tokenizer_file, vocab_size=config.vocab_size)
    check_round_trip(tekken, source.tokenizer_file)
    shards = plan_shards(_stored_tensors(config), shard_bytes=shard_bytes)
    return _Plan(source, settings, config, shards, tekken)


def _stored_tensors(config: ModelConfig) -> list[PlannedTensor]:
    """The output's tensors in the order in which they are written."""
    shapes = weight_shapes(config)
    floating = next(code for code, name in DTYPE_NAMES.items() if name == config.dtype)
    return [
        PlannedTensor(name, "U32" if is_packed(name, shapes) else floating, shape)
        for name, shape in shapes.items()
    ]


def _write(plan: _Plan, folder: Path, on_progress: ProgressCallback | None) -> None:
    tensor_digests = _write_weights(plan, folder, on_progress)
    parameters = sum(prod(tensor.shape) for tensor in plan.source.tensors)
    write_json(folder / INDEX_FILE, index_json(plan.shards, parameters=parameters))
    config = config_json(plan.source, plan.settings, plan.tekken)
    file_digests = write_model_files(folder, plan.source, config=config, tekken=plan.tekken)
    manifest = manifest_json(
        plan.source,
        plan.settings,
        plan.shards,
        tensor_digests=tensor_digests,
        file_digests=file_digests,
    )
    write_json(folder / MANIFEST_FILE, manifest)


def _write_weights(
    plan: _Plan, folder: Path, on_progress: ProgressCallback | None
) -> dict[str, str]:
    total = sum(map(tensor_bytes, plan.source.tensors))
    done = 0
    with ShardWriter(folder, plan.shards) as writer:
        for tensor in plan.source.tensors:
            for nbytes, stored in stored_blocks(
                tensor, quantization=plan.settings.quantization, dtype=plan.settings.dtype
            ):
                for name, rows in stored.items():
                    writer.append(name, rows)
                done += nbytes
                if on_progress is not None:
                    on_progress(Progress(done, total, tensor.name))
        return writer.finish()


def _verify(plan: _Plan, folder: Path) -> None:
    """What was written opens again, is what was planned, and reads text as the source does."""
    checkpoint = open_checkpoint(folder)
    if checkpoint.config != plan.config:
        raise CheckpointError(
            f"{folder} reads back as {checkpoint.config} instead of {plan.config}: report this."
        )
    before, after = plan.source.tokenizer_file, checkpoint.tokenizer_file
    if sha256(before.read_bytes()).digest() != sha256(after.read_bytes()).digest():
        raise CheckpointError(f"{before} changed while it was copied: run this again.")
    reopened = open_tekken(after, vocab_size=plan.config.vocab_size)
    if check_round_trip(reopened, after) != check_round_trip(plan.tekken, before):
        raise CheckpointError(f"{after} gives other token ids than {before}: check the disk.")
