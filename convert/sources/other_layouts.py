"""The Mistral layout: params.json and consolidated.safetensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.checkpoint.config import ARCHITECTURE, ModelConfig
from magistral_mlx.checkpoint.folder import read_entries
from magistral_mlx.checkpoint.json_file import existing_file, read_json
from magistral_mlx.checkpoint.weight_shapes import check_entries, weight_shapes
from magistral_mlx.convert.sources.fingerprint import files_fingerprint
from magistral_mlx.convert.sources.source import Rows, Source, SourceTensor, StoredTensor
from magistral_mlx.convert.sources.tensors import FileTensor

WEIGHTS = "consolidated.safetensors"

TOP = {
    "model.embed_tokens.weight": "tok_embeddings.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER = {
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
}
ROTATED = ("self_attn.q_proj.weight", "self_attn.k_proj.weight")


def open_mistral_folder(folder: Path, *, name: str, companions: tuple[Path, ...]) -> Source:
    """Check a folder of the Mistral layout and present it under Hugging Face's names.

    Raises CheckpointError with the file and what is wrong with it.
    """
    read_json(folder / "params.json")
    tokenizer_file = existing_file(folder / "tekken.json")
    entries = read_entries((existing_file(folder / WEIGHTS),))
    small_files = (folder / "params.json", tokenizer_file, *companions)
    return mistral_source(
        folder,
        name=name,
        companions=companions,
        tensors={name: FileTensor(name, *found) for name, found in entries.items()},
        fingerprint=files_fingerprint(small_files, entries),
    )


def mistral_source(
    folder: Path,
    *,
    name: str,
    companions: tuple[Path, ...],
    tensors: Mapping[str, StoredTensor],
    fingerprint: str,
) -> Source:
    """The source whose small files lie in a folder; `tensors` have the Mistral layout's names."""
    config = ModelConfig.from_params(read_json(folder / "params.json"))
    theirs = {mistral_name(name): name for name in weight_shapes(config)}
    entries = {theirs.get(name, name): tensor.entry for name, tensor in tensors.items()}
    check_entries(config, entries, folder)
    return Source(
        name=name,
        layout="mistral",
        config=config,
        hf_config=hf_config_of(config),
        tensors=tuple(
            _in_hf_order(Renamed(ours, tensors[name]), config.head_dim)
            for name, ours in theirs.items()
        ),
        tokenizer_file=existing_file(folder / "tekken.json"),
        companions=companions,
        fingerprint=fingerprint,
    )


def mistral_name(name: str) -> str:
    """The Mistral layout's name: model.layers.3.mlp.up_proj is layers.3.feed_forward.w3."""
    if name in TOP:
        return TOP[name]
    _, layers, index, rest = name.split(".", 3)
    return f"{layers}.{index}.{LAYER[rest.removesuffix('.weight')]}.weight"


@dataclass(frozen=True, slots=True)
class Renamed:
    """A tensor under Hugging Face's name."""

    name: str
    tensor: SourceTensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    def read_rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop) as the tensor's own."""
        return self.tensor.read_rows(start, stop)


@dataclass(frozen=True, slots=True)
class RotaryRows:
    """Query or key rows in Hugging Face's order.

    Mistral's layout rotates rows 2i and 2i + 1 of a head together, Hugging Face's rows i and
    i + head_dim / 2 (transformers, convert_mistral_weights_to_hf.py, `permute_for_rope`).
    """

    tensor: SourceTensor
    head_dim: int

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    def read_rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop) of the permuted tensor: whole heads are read, and cut to them."""
        first = start // self.head_dim * self.head_dim
        last = -(-stop // self.head_dim) * self.head_dim
        rows = self.tensor.read_rows(first, last)
        pairs = rows.reshape(-1, self.head_dim // 2, 2, rows.shape[-1])
        halves = pairs.swapaxes(1, 2).reshape(rows.shape)
        return halves[start - first : stop - first]


def _in_hf_order(tensor: SourceTensor, head_dim: int) -> SourceTensor:
    return RotaryRows(tensor, head_dim) if tensor.name.endswith(ROTATED) else tensor


def hf_config_of(config: ModelConfig) -> dict[str, object]:
    """The config.json that Hugging Face's layout would have."""
    return {
        "architectures": [ARCHITECTURE],
        "attention_dropout": 0.0,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "model_type": "mistral",
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": config.tie_word_embeddings,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }
