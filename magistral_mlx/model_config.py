"""What a checkpoint says about the model's shape, read from either official layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magistral_mlx.errors import CheckpointError
from magistral_mlx.json_file import JsonFields

ARCHITECTURE = "MistralForCausalLM"
MODEL_TYPES = {ARCHITECTURE: "mistral", "LlamaForCausalLM": "llama"}
"""Architectures that the decoder is, without whatever _refuse_other_decoders lists."""

ROPE_THETA = 10_000.0
"""Where config.json has none, as transformers fills it in."""

DTYPES = ("bfloat16", "float16", "float32")
BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)

CONTEXT_WINDOW = 128_000
"""Positions when params.json names none, as several releases do: the card promises 128k."""

FORMATS = {
    "affine": (BITS, GROUP_SIZES),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}
"""MLX's formats, and the bits and group sizes that each exists in. Affine groups have a scale and
a bias, the others a scale of one byte."""

DEFAULTS = {"affine": (4, 64), "mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}
"""Bits and group size where config.json leaves them out, as MLX fills them in."""

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
        if self.mode not in FORMATS:
            raise CheckpointError(
                f"Quantisation mode {self.mode!r} is not supported: choose {choices([*FORMATS])}."
            )
        bits, group_sizes = FORMATS[self.mode]
        if self.bits not in bits:
            raise CheckpointError(f"{self.bits} bits are not supported: choose {choices(bits)}.")
        if self.group_size not in group_sizes:
            raise CheckpointError(
                f"Group size {self.group_size} is not supported: choose {choices(group_sizes)}."
            )

    @property
    def has_biases(self) -> bool:
        """Whether a group is stored with a bias beside its scale."""
        return self.mode == "affine"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The decoder's shape and the stored type of its floating-point tensors.

    module_quantization: modules (by mlx-lm's names) that are stored otherwise than `quantization`
    says; None: not quantised.
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
        """How a module's matrix is stored: "model.layers.3.mlp.up_proj", say."""
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
            module_quantization=_module_quantization(data),
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
    if data.get("model_type") == "llama" and source.get("rope_theta") is None:
        return ROPE_THETA
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
    return _stored_as(values, "config.json: quantization")


def _module_quantization(
    data: Mapping[str, object],
) -> tuple[tuple[str, Quantization | None], ...]:
    """Modules with their own quantisation, as mlx-lm writes them: a mapping, or false for none."""
    default = _quantization(data)
    values = _mapping(data.get("quantization") or data.get("quantization_config"))
    own = {
        name: _stored_as(value, f"config.json: quantization of {name}") if value else None
        for name, value in values.items()
        if isinstance(value, Mapping) or value is False
    }
    return tuple((name, value) for name, value in sorted(own.items()) if value != default)


def _stored_as(values: object, where: str) -> Quantization:
    fields = JsonFields(_mapping(values), where)
    mode = str(fields.data.get("mode", "affine"))
    bits, group_size = DEFAULTS.get(mode, (4, 64))
    return Quantization(
        bits=fields.size("bits", default=bits),
        group_size=fields.size("group_size", default=group_size),
        mode=mode,
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _unsupported(file: str, name: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"{file}: {name} {value!r} is not supported: use a plain Mistral or Llama checkpoint "
        "(Magistral Small 2506 is one)."
    )


def choices(values: Sequence[int | str]) -> str:
    """The values as a message lists them: "2, 3 or 4"."""
    if len(values) == 1:
        return str(values[0])
    return ", ".join(map(str, values[:-1])) + f" or {values[-1]}"
