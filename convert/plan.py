"""Everything that is known about a conversion before the first weight is read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from magistral_mlx.checkpoint import DTYPE_NAMES
from magistral_mlx.convert.manifest import package_versions
from magistral_mlx.convert.quantise import stored_names
from magistral_mlx.convert.settings import Settings
from magistral_mlx.convert.shards import Shard, plan_shards
from magistral_mlx.convert.source import Source, SourceTensor
from magistral_mlx.convert.tokenizer_check import check_round_trip, open_tekken
from magistral_mlx.model_config import ModelConfig, Quantization
from magistral_mlx.safetensors_header import TensorEntry, TensorSpec
from magistral_mlx.weight_shapes import FLOAT, stored_type, weight_shapes


@dataclass(frozen=True, slots=True)
class ConversionPlan:
    """Source, settings, and the output's config and files."""

    source: Source
    settings: Settings
    config: ModelConfig
    shards: tuple[Shard, ...]
    tekken: Tekkenizer

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


def make_plan(source: Source, settings: Settings, *, shard_bytes: int) -> ConversionPlan:
    """Check source, settings and tokenizer against each other. Raises CheckpointError."""
    config = settings.recipe.apply(replace(source.config, dtype=settings.dtype))
    tekken = open_tekken(source.tokenizer_file, vocab_size=config.vocab_size)
    check_round_trip(tekken, source.tokenizer_file)
    shards = plan_shards(_stored_tensors(config), shard_bytes=shard_bytes)
    return ConversionPlan(source, settings, config, shards, tekken)


def _stored_tensors(config: ModelConfig) -> list[TensorSpec]:
    """The output's tensors in the order in which they are written."""
    shapes = weight_shapes(config)
    floating = next(code for code, name in DTYPE_NAMES.items() if name == config.dtype)
    types = {name: stored_type(config, name, shapes) for name in shapes}
    return [
        TensorSpec(name, floating if types[name] == FLOAT else types[name], shape)
        for name, shape in shapes.items()
    ]
