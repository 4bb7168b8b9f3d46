"""The conversion plan: what will be written, worked out before reading weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.safetensors_header import TensorEntry, TensorSpec
from magistral_mlx.checkpoint.weight_shapes import FLOAT, stored_type, weight_shapes
from magistral_mlx.convert.options import ConversionOptions
from magistral_mlx.convert.output.manifest import package_versions
from magistral_mlx.convert.output.shards import Shard, plan_shards
from magistral_mlx.convert.rounding.calibration import Pieces, calibration_pieces, pieces_digest
from magistral_mlx.convert.rounding.importance import Importance, importance_digest, read_importance
from magistral_mlx.convert.rounding.recipe import Recipe
from magistral_mlx.convert.rounding.stored_form import stored_as
from magistral_mlx.convert.sources.source import Source
from magistral_mlx.convert.vocabulary.open_vocabulary import Vocabulary, open_vocabulary
from magistral_mlx.device import dtype_of, safetensors_name
from magistral_mlx.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class ConversionPlan:
    """The source, the recipe, and the config and files of the output.

    importance weights the errors; calibration is the text that the weights are calibrated on.
    """

    source: Source
    recipe: Recipe
    config: ModelConfig
    shards: tuple[Shard, ...]
    vocabulary: Vocabulary
    importance: Importance | None = None
    calibration: Pieces | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the weight files."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def settings(self) -> dict[str, object]:
        """The recipe, and digests (hex) of importance and calibration, for journal and manifest."""
        return self.recipe.as_json() | {
            "importance": None if self.importance is None else importance_digest(self.importance),
            "calibration": None if self.calibration is None else pieces_digest(self.calibration),
        }

    @property
    def task(self) -> dict[str, object]:
        """Everything that determines the output's bytes: only the same task may be resumed."""
        headers = b"".join(shard.header for shard in self.shards)
        return {
            "source": {"name": self.source.name, "content": self.source.fingerprint},
            "settings": self.settings,
            "files": sha256(headers).hexdigest(),
            "versions": package_versions(),
        }

    def places(self, folder: Path) -> Mapping[str, tuple[Path, TensorEntry]]:
        """The file and byte range of every tensor of an output in `folder`."""
        return {
            name: (folder / shard.file_name, entry)
            for shard in self.shards
            for name, entry in shard.entries.items()
        }


def plan_conversion(
    source: Source, options: ConversionOptions, *, shard_bytes: int
) -> ConversionPlan:
    """Check source, options, tokenizer and texts against each other. Raises CheckpointError."""
    recipe = options.chosen_recipe()
    config = recipe.apply(source.config)
    vocabulary = open_vocabulary(source.tokenizer_file, vocab_size=config.vocab_size)
    vocabulary.check()
    shards = plan_shards(_stored_tensors(config), shard_bytes=shard_bytes)
    plan = ConversionPlan(source, recipe, config, shards, vocabulary)
    if options.importance is None and options.calibrate is None:
        return plan
    _check_texts(plan, options)
    if options.importance is not None:
        plan = replace(plan, importance=read_importance(options.importance, config))
    if options.calibrate is not None:
        plan = replace(plan, calibration=calibration_pieces(options.calibrate, vocabulary))
    return plan


def _check_texts(plan: ConversionPlan, options: ConversionOptions) -> None:
    """Refuse importance and calibration where they change nothing."""
    is_tied = plan.config.tie_word_embeddings
    if options.importance is not None and options.calibrate is not None and not is_tied:
        raise CheckpointError(
            "--calibrate finds the importance itself, except for an embedding that is also the "
            "head: leave out --importance or --calibrate."
        )
    stored = {stored_as(tensor, plan.config) for tensor in plan.source.tensors}
    if plan.recipe.rtn or not any(each and each.has_biases for each in stored):
        raise CheckpointError(
            "--importance and --calibrate choose scales and biases, but --rtn and recipe "
            f"{plan.recipe.name} leave no choice: leave them out or use one of the recipes q2 to "
            "q8 or mixed."
        )


def _stored_tensors(config: ModelConfig) -> list[TensorSpec]:
    """The output's tensors in the order of writing."""
    shapes = weight_shapes(config)
    floating = safetensors_name(dtype_of(config.dtype))
    types = {name: stored_type(config, name, shapes) for name in shapes}
    return [
        TensorSpec(name, floating if types[name] == FLOAT else types[name], shape)
        for name, shape in shapes.items()
    ]
