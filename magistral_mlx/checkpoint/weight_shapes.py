"""The tensors that a config requires, by mlx-lm's names, and whether a checkpoint has them."""

from collections.abc import Mapping
from pathlib import Path

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import GROUP_SIZES, Quantization, choices
from magistral_mlx.checkpoint.safetensors_header import TensorEntry
from magistral_mlx.errors import CheckpointError

FLOAT = "float"
"""Stands for the checkpoint's floating-point type: BF16, F16 or F32."""


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint with this config, by mlx-lm's names.

    A quantised matrix has two or three tensors: weight (uint32, packed), scales, and biases if its
    format has them.
    """
    own = dict(config.module_quantization)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in plain_shapes(config).items():
        quantization = own.get(name.removesuffix(".weight"), config.quantization)
        if quantization is None or len(shape) == 1:
            shapes[name] = shape
        else:
            shapes.update(_quantised_shapes(name, shape, quantization))
    return shapes


def plain_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor before quantisation, in the order of the forward pass."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for index in range(config.num_hidden_layers):
        layer = {
            "input_layernorm": (hidden,),
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "post_attention_layernorm": (hidden,),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        shapes |= {f"model.layers.{index}.{name}.weight": shape for name, shape in layer.items()}
    shapes["model.norm.weight"] = (hidden,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def _quantised_shapes(
    name: str, shape: tuple[int, ...], quantization: Quantization
) -> dict[str, tuple[int, ...]]:
    rows, columns = shape
    if columns % quantization.group_size:
        raise CheckpointError(
            f"Group size {quantization.group_size} does not divide the {columns} columns of "
            f"{name}: choose a group size that does ({choices(GROUP_SIZES)} exist)."
        )
    module = name.removesuffix(".weight")
    groups = (rows, columns // quantization.group_size)
    shapes: dict[str, tuple[int, ...]] = {
        name: (rows, columns * quantization.bits // 32),
        f"{module}.scales": groups,
    }
    return shapes | ({f"{module}.biases": groups} if quantization.has_biases else {})


def stored_type(config: ModelConfig, name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The safetensors type of a tensor: U32 when packed, U8 for scales of one byte, else FLOAT."""
    if is_packed(name, shapes):
        return "U32"
    if not name.endswith(".scales"):
        return FLOAT
    quantization = config.quantization_of(name.removesuffix(".scales"))
    return FLOAT if quantization is None or quantization.has_biases else "U8"


def check_entries(config: ModelConfig, entries: Mapping[str, TensorEntry], where: Path) -> None:
    """Compare the names, shapes and types in weight files with those that the config requires.

    Raises CheckpointError with the first tensor that differs.
    """
    check_shapes(config, {name: entry.shape for name, entry in entries.items()}, where)
    wanted = weight_shapes(config)
    for name in wanted:
        found = entries[name].dtype
        if (found if found in ("U32", "U8") else FLOAT) != stored_type(config, name, wanted):
            raise CheckpointError(
                f"{where}: tensor {name} has type {entries[name].dtype}, which does not fit the "
                "quantisation in its configuration: use the original files of one release."
            )


def is_packed(name: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a tensor holds packed integers: a weight that has scales beside it."""
    return name.endswith(".weight") and name.removesuffix("weight") + "scales" in shapes


def check_shapes(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], where: Path) -> None:
    """Compare the existing tensors with those that the config requires."""
    wanted = weight_shapes(config)
    missing = [name for name in wanted if name not in shapes]
    if missing:
        raise CheckpointError(
            f"{where} has no tensor {missing[0]}, which its configuration requires "
            f"({len(missing)} missing): download the checkpoint again."
        )
    unknown = sorted(name for name in shapes.keys() - wanted.keys() if not is_ignored(name, config))
    if unknown:
        raise CheckpointError(
            f"{where} has a tensor {unknown[0]} that its configuration does not name: use a "
            "plain Mistral checkpoint."
        )
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise CheckpointError(
                f"{where}: tensor {name} has shape {shapes[name]} and its configuration "
                f"requires {shape}: weights and configuration belong to different models."
            )


def is_ignored(name: str, config: ModelConfig) -> bool:
    """Whether a tensor of old exports is not needed, as in mlx-lm's `sanitize`."""
    tied_head = config.tie_word_embeddings and name.startswith("lm_head.")
    return tied_head or name.endswith("rotary_emb.inv_freq")
