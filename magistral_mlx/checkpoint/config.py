"""The model's shape, read from a checkpoint of either official layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magistral_mlx.checkpoint.json_file import JsonFields, as_mapping
from magistral_mlx.checkpoint.quantization import (
    Quantization,
    choices,
    quantization_by_module,
    stored_quantization,
)
from magistral_mlx.device import DTYPES
from magistral_mlx.errors import CheckpointError

ARCHITECTURE = "MistralForCausalLM"
MODEL_TYPES = {ARCHITECTURE: "mistral", "LlamaForCausalLM": "llama"}
"""Architectures that the decoder implements, without the fields that are refused below."""

ROPE_THETA = 10_000.0
"""The default of transformers, where config.json has none."""

CONTEXT_WINDOW = 128_000
"""Positions when params.json has none, as in several releases: the model card says 128k."""

UNSUPPORTED_PARAMS = (
    "moe",
    "vision_encoder",
    "multimodal",
    "audio",
    "yarn",
    "rope_scaling",
    "llama_4_scaling",
    "q_lora_rank",
    "quantization",
    "lora",
)
"""Fields of params.json for models that the runtime does not implement."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The decoder's shape and the stored type of its floating-point tensors.

    module_quantization: modules (by mlx-lm's names) that are not stored as `quantization` says;
    None: not quantised.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    tie_word_embeddings: bool
    dtype: str
    quantization: Quantization | None
    module_quantization: tuple[tuple[str, Quantization | None], ...] = ()

    def quantization_of(self, module: str) -> Quantization | None:
        """How the matrix of a module is stored, for example of "model.layers.3.mlp.up_proj"."""
        return dict(self.module_quantization).get(module, self.quantization)

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise CheckpointError(
                f"{self.num_attention_heads} query heads cannot share "
                f"{self.num_key_value_heads} key/value heads evenly: correct the checkpoint's "
                "configuration file."
            )
        if self.head_dim % 2:
            raise CheckpointError(
                f"head_dim {self.head_dim} is odd, and rotary embeddings need pairs: correct the "
                "checkpoint's configuration file."
            )

    @classmethod
    def from_hf(cls, data: Mapping[str, object]) -> "ModelConfig":
        """Read config.json of the Hugging Face or MLX layout.

        Raises CheckpointError for a missing field, and for what the decoder does not support.
        """
        fields = JsonFields(data, "config.json")
        _refuse_other_architectures(data)
        _refuse_other_decoders(data)
        hidden_size, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
        return cls(
            vocab_size=fields.size("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=fields.size("intermediate_size"),
            num_hidden_layers=fields.size("num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=fields.size("num_key_value_heads", default=heads),
            head_dim=fields.size("head_dim", default=hidden_size // heads),
            rms_norm_eps=fields.number("rms_norm_eps"),
            rope_theta=_rope_theta(data),
            max_position_embeddings=fields.size("max_position_embeddings"),
            tie_word_embeddings=fields.flag("tie_word_embeddings"),
            dtype=_dtype(data),
            quantization=stored_quantization(data),
            module_quantization=quantization_by_module(data),
        )

    @classmethod
    def from_params(cls, data: Mapping[str, object]) -> "ModelConfig":
        """Read params.json of the Mistral layout, whose weights are bfloat16 and not quantised.

        Raises CheckpointError as from_hf does.
        """
        fields = JsonFields(data, "params.json")
        for name in UNSUPPORTED_PARAMS:
            if data.get(name):
                raise _unsupported("params.json", name, data[name])
        if data.get("activation", "silu") != "silu":
            raise _unsupported("params.json", "activation", data["activation"])
        _refuse_sliding_window(data, "params.json")
        dim, heads = fields.size("dim"), fields.size("n_heads")
        longest = fields.size("max_seq_len", default=CONTEXT_WINDOW)
        return cls(
            vocab_size=fields.size("vocab_size"),
            hidden_size=dim,
            intermediate_size=fields.size("hidden_dim"),
            num_hidden_layers=fields.size("n_layers"),
            num_attention_heads=heads,
            num_key_value_heads=fields.size("n_kv_heads", default=heads),
            head_dim=fields.size("head_dim", default=dim // heads),
            rms_norm_eps=fields.number("norm_eps"),
            rope_theta=fields.number("rope_theta"),
            max_position_embeddings=fields.size("max_position_embeddings", default=longest),
            tie_word_embeddings=fields.flag("tied_embeddings"),
            dtype="bfloat16",
            quantization=None,
        )


def _refuse_other_architectures(data: Mapping[str, object]) -> None:
    named = [name for name, kind in MODEL_TYPES.items() if kind == data.get("model_type")]
    names = data.get("architectures") or named or [ARCHITECTURE]
    known = [name for name in MODEL_TYPES if isinstance(names, Sequence) and name in names]
    if not known:
        raise CheckpointError(
            f"config.json: architecture {names!r} is not supported: use a checkpoint of "
            f"{choices([*MODEL_TYPES])}."
        )
    wanted = MODEL_TYPES[known[0]]
    if data.get("model_type") != wanted:
        raise CheckpointError(
            f"config.json: model_type {data.get('model_type')!r} is not supported: use a "
            f"checkpoint of model_type {wanted!r}."
        )


def _refuse_other_decoders(data: Mapping[str, object]) -> None:
    for name in ("attention_bias", "mlp_bias"):
        if data.get(name):
            raise _unsupported("config.json", name, data[name])
    for name, only in (("hidden_act", "silu"), ("partial_rotary_factor", 1.0)):
        if data.get(name, only) != only:
            raise _unsupported("config.json", name, data[name])
    rope = {**as_mapping(data.get("rope_scaling")), **as_mapping(data.get("rope_parameters"))}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise _unsupported("config.json", "rope scaling", rope)
    _refuse_sliding_window(data, "config.json")


def _refuse_sliding_window(data: Mapping[str, object], file: str) -> None:
    if data.get("sliding_window"):
        raise _unsupported(file, "sliding_window", data["sliding_window"])
    layer_types = data.get("layer_types") or []
    if isinstance(layer_types, list) and set(layer_types) - {"full_attention"}:
        raise _unsupported(file, "layer_types", sorted(set(map(str, layer_types))))


def _rope_theta(data: Mapping[str, object]) -> float:
    """Transformers 5 writes it inside rope_parameters, earlier versions at the top."""
    inside = as_mapping(data.get("rope_parameters"))
    source = data if data.get("rope_theta") is not None else inside
    if data.get("model_type") == "llama" and source.get("rope_theta") is None:
        return ROPE_THETA
    return JsonFields(source, "config.json").number("rope_theta")


def _dtype(data: Mapping[str, object]) -> str:
    dtype = data.get("dtype") or data.get("torch_dtype") or "bfloat16"
    if dtype not in DTYPES:
        raise _unsupported("config.json", "dtype", dtype)
    return str(dtype)


def _unsupported(file: str, name: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"{file}: {name} {value!r} is not supported: use a plain Mistral or Llama checkpoint "
        "(Magistral Small 2506 is one)."
    )
