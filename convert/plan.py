"""Everything that is known about a conversion before the first weight is read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.checkpoint.safetensors_header import TensorEntry, TensorSpec
from magistral_mlx.checkpoint.weight_shapes import FLOAT, stored_type, weight_shapes
from magistral_mlx.convert.output.manifest import package_versions
from magistral_mlx.convert.output.shards import Shard, plan_shards
from magistral_mlx.convert.rounding.calibration import Pieces, calibration_pieces, pieces_digest
from magistral_mlx.convert.rounding.importance import Importance, importance_digest, read_importance
from magistral_mlx.convert.rounding.rounder import stored_names
from magistral_mlx.convert.rounding.settings import Settings
from magistral_mlx.convert.sources.source import Source, SourceTensor
from magistral_mlx.convert.vocabulary.open_vocabulary import Vocabulary, open_vocabulary
from magistral_mlx.device import dtype_of, safetensors_name
from magistral_mlx.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class ConversionPlan:
    """Source, settings, and the output's config and files."""

    source: Source
    settings: Settings
    config: ModelConfig
    shards: tuple[Shard, ...]
    vocabulary: Vocabulary
    importance: Importance | None = None
    calibration: Pieces | None = None

    @property
    def nbytes(self) -> int:
        """Of the weight files."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def task(self) -> dict[str, object]:
        """What the output's bytes follow from: a run goes on only with the same."""
        headers = b"".join(shard.header for shard in self.shards)
        return {
            "source": {"name": self.source.name, "content": self.source.fingerprint},
            "settings": self.settings.as_json(),
            "files": sha256(headers).hexdigest(),
            "versions": package_versions(),
        }

    def quantization(self, tensor: SourceTensor) -> Quantization | None:
        """How a tensor is stored; None: as numbers of the settings' dtype."""
        if len(tensor.shape) == 1:
            return None
        return self.config.quantization_of(tensor.name.removesuffix(".weight"))

    def stored_names(self, tensor: SourceTensor) -> tuple[str, ...]:
        """The output's tensors that a tensor of the source becomes."""
        return stored_names(tensor.name, self.quantization(tensor))

    def places(self, folder: Path) -> Mapping[str, tuple[Path, TensorEntry]]:
        """Where every tensor of the output lies."""
        return {
            name: (folder / shard.file_name, entry)
            for shard in self.shards
            for name, entry in shard.entries.items()
        }


def make_plan(
    source: Source,
    settings: Settings,
    *,
    shard_bytes: int,
    importance: Path | None = None,
    calibrate: Path | None = None,
) -> ConversionPlan:
    """Check source, settings, tokenizer and texts against each other. Raises CheckpointError."""
    config = settings.recipe.apply(replace(source.config, dtype=settings.dtype))
    vocabulary = open_vocabulary(source.tokenizer_file, vocab_size=config.vocab_size)
    vocabulary.check()
    shards = plan_shards(_stored_tensors(config), shard_bytes=shard_bytes)
    plan = ConversionPlan(source, settings, config, shards, vocabulary)
    if importance is not None and calibrate is not None and not config.tie_word_embeddings:
        raise CheckpointError(
            "A calibrated conversion finds out itself what counts, but for an embedding that is "
            "the head too: leave out --importance or --calibrate."
        )
    if importance is not None or calibrate is not None:
        _check_method(plan)
    if importance is not None:
        plan = _weighted(plan, read_importance(importance, config))
    if calibrate is not None:
        plan = _calibrated(plan, calibration_pieces(calibrate, vocabulary))
    return plan


def _check_method(plan: ConversionPlan) -> None:
    """Refuse where nothing can be weighted: there must be scales and biases to choose."""
    stored = {plan.quantization(tensor) for tensor in plan.source.tensors}
    if plan.settings.method == "rtn" or not any(q and q.has_biases for q in stored):
        raise CheckpointError(
            "--importance and --calibrate choose scales and biases, which plain rounding "
            f"(--rtn) and recipe {plan.settings.recipe.name} leave no choice about: leave them out "
            "or take one of the recipes q2 to q8 or mixed."
        )


def _weighted(plan: ConversionPlan, importance: Importance) -> ConversionPlan:
    settings = replace(plan.settings, importance=importance_digest(importance))
    return replace(plan, settings=settings, importance=importance)


def _calibrated(plan: ConversionPlan, pieces: Pieces) -> ConversionPlan:
    settings = replace(plan.settings, calibration=pieces_digest(pieces))
    return replace(plan, settings=settings, calibration=pieces)


def _stored_tensors(config: ModelConfig) -> list[TensorSpec]:
    """The output's tensors in the order in which they are written."""
    shapes = weight_shapes(config)
    floating = safetensors_name(dtype_of(config.dtype))
    types = {name: stored_type(config, name, shapes) for name in shapes}
    return [
        TensorSpec(name, floating if types[name] == FLOAT else types[name], shape)
        for name, shape in shapes.items()
    ]
