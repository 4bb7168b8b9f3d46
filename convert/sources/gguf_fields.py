"""The metadata of a GGUF file, and the model's shape from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.errors import CheckpointError

ARCHITECTURES = ("llama", "mistral3")


@dataclass(frozen=True, slots=True)
class GGUFFields:
    """The metadata of a file, by name."""

    reader: GGUFReader
    path: Path

    def get(self, name: str) -> object:
        field = self.reader.get_field(name)
        return None if field is None else field.contents()

    def text(self, name: str) -> str | None:
        value = self.get(name)
        return value if isinstance(value, str) else None

    def size(self, name: str, *, default: int | None = None) -> int:
        value = self.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or value < 1:
            raise CheckpointError(f"{self.path} has no usable {name} ({value!r}): another model.")
        return value

    def number(self, name: str, *, default: float | None = None) -> float:
        value = self.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, float | int):
            raise CheckpointError(f"{self.path} has no usable {name} ({value!r}): another model.")
        return float(value)

    def values(self, prefix: str) -> Mapping[str, object]:
        names = [name for name in self.reader.fields if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.get(name) for name in names}


def config_of(fields: GGUFFields, *, tied: bool) -> ModelConfig:
    """The model's shape. Raises CheckpointError for what the decoder is not."""
    kind = fields.text("general.architecture")
    if kind not in ARCHITECTURES:
        raise CheckpointError(
            f"{fields.path} is of architecture {kind!r}: give a Mistral model (llama or mistral3)."
        )
    if fields.get(f"{kind}.rope.scaling.type") not in (None, "none"):
        raise CheckpointError(f"{fields.path} scales its rope, which is not supported.")
    if fields.get(f"{kind}.expert_count"):
        raise CheckpointError(f"{fields.path} is a mixture of experts, which is not supported.")
    hidden = fields.size(f"{kind}.embedding_length")
    heads = fields.size(f"{kind}.attention.head_count")
    vocabulary = fields.get("tokenizer.ggml.tokens")
    known = len(vocabulary) if isinstance(vocabulary, list) else None
    return ModelConfig(
        vocab_size=fields.size(f"{kind}.vocab_size", default=known),
        hidden_size=hidden,
        intermediate_size=fields.size(f"{kind}.feed_forward_length"),
        num_hidden_layers=fields.size(f"{kind}.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=fields.size(f"{kind}.attention.head_count_kv", default=heads),
        head_dim=fields.size(f"{kind}.attention.key_length", default=hidden // heads),
        # Stored as float32: 1e-5 comes back as 9.99999974e-6.
        rms_norm_eps=_short(fields.number(f"{kind}.attention.layer_norm_rms_epsilon")),
        rope_theta=_short(fields.number(f"{kind}.rope.freq_base", default=10_000.0)),
        max_position_embeddings=fields.size(f"{kind}.context_length"),
        tie_word_embeddings=tied,
        dtype="bfloat16",
        quantization=None,
    )


def _short(number: float) -> float:
    """The shortest decimal of a float32."""
    return float(str(np.float32(number)))
