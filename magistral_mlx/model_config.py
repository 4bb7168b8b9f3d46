"""What a checkpoint says about the model's shape, read from either official layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magistral_mlx.errors import CheckpointError
from magistral_mlx.json_file import JsonFields

ARCHITECTURE = "MistralForCausalLM"
DTYPES = ("bfloat16", "float16", "float32")
BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)

CONTEXT_WINDOW = 128_000
"""Positions when params.json names none, as several releases do: the card promises 128k."""

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
"""Fields of params.json that change the model into one that the runtime does not implement."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the weight matrices are stored: MLX's grouped formats."""

    bits: int
    group_size: int
    mode: str = "affine"

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise CheckpointError(f"{self.bits} bits are not supported: choose {choices(BITS)}.")
        if self.group_size not in GROUP_SIZES:
            raise CheckpointError(
                f"Group size {self.group_size} is not supported: choose {choices(GROUP_SIZES)}."
            )
        if self.mode != "affine":
            raise CheckpointError(
                f"Quantisation mode {self.mode!r} is not supported: use affine weights."
            )


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The decoder's shape and the stored type of its floating-point tensors."""

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

        Raises CheckpointError for a missing field and for whatever the decoder does not do.
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
            quantization=_quantization(data),
        )

    @classmethod
    def from_params(cls, data: Mapping[str, object]) -> "ModelConfig":
        """Read params.json of the Mistral layout; its weights are bfloat16 and not quantised.

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
    names = data.get("architectures") or [ARCHITECTURE]
    if not isinstance(names, Sequence) or ARCHITECTURE not in names:
        raise CheckpointError(
            f"config.json: architecture {names!r} is not supported: use a checkpoint of "
            f"{ARCHITECTURE}."
        )
    if data.get("model_type") != "mistral":
        raise CheckpointError(
            f"config.json: model_type {data.get('model_type')!r} is not supported: use a "
            "checkpoint of model_type 'mistral'."
        )


def _refuse_other_decoders(data: Mapping[str, object]) -> None:
    for name in ("attention_bias", "mlp_bias"):
        if data.get(name):
            raise _unsupported("config.json", name, data[name])
    for name, only in (("hidden_act", "silu"), ("partial_rotary_factor", 1.0)):
        if data.get(name, only) != only:
            raise _unsupported("config.json", name, data[name])
    rope = {**_mapping(data.get("rope_scaling")), **_mapping(data.get("rope_parameters"))}
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
    """Transformers 5 keeps it inside rope_parameters, earlier ones at the top."""
    inside = _mapping(data.get("rope_parameters"))
    source = data if data.get("rope_theta") is not None else inside
    return JsonFields(source, "config.json").number("rope_theta")


def _dtype(data: Mapping[str, object]) -> str:
    dtype = data.get("dtype") or data.get("torch_dtype") or "bfloat16"
    if dtype not in DTYPES:
        raise _unsupported("config.json", "dtype", dtype)
    return str(dtype)


def _quantization(data: Mapping[str, object]) -> Quantization | None:
    found = data.get("quantization") or data.get("quantization_config")
    if not found:
        return None
    values = _mapping(found)
    if not isinstance(values.get("bits"), int) or "quant_method" in values:
        raise CheckpointError(
            f"config.json: the weights are quantised by {values.get('quant_method', found)!r}, "
            "which is not supported: use the bfloat16 release or an MLX folder."
        )
    extra = sorted(key for key, value in values.items() if isinstance(value, (Mapping, bool)))
    if extra:
        raise CheckpointError(
            f"config.json: {extra[0]} has its own quantisation, which is not supported: use a "
            "checkpoint with the same bits everywhere."
        )
    fields = JsonFields(values, "config.json: quantization")
    return Quantization(
        bits=fields.size("bits"),
        group_size=fields.size("group_size"),
        mode=str(values.get("mode", "affine")),
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _unsupported(file: str, name: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"{file}: {name} {value!r} is not supported: use a plain Mistral checkpoint "
        "(Magistral Small 2506 is one)."
    )


def choices(values: Sequence[int]) -> str:
    """The values as a message lists them: "2, 3 or 4"."""
    return ", ".join(map(str, values[:-1])) + f" or {values[-1]}"
