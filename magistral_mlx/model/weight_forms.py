"""From a checkpoint's tensors to the decoder's: what is fused, and what is quantised."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from magistral_mlx.checkpoint.config import ModelConfig


def shares_qkv(config: ModelConfig, layer: int) -> bool:
    """Whether q, k and v of a layer have the same format, so that their rows can be one matrix."""
    prefix = f"model.layers.{layer}.self_attn"
    return len({config.quantization_of(f"{prefix}.{name}_proj") for name in "qkv"}) == 1


def fuse_qkv(weights: dict[str, mx.array], config: ModelConfig) -> None:
    """Join q, k and v in one matrix: one product and one rope call instead of three and two."""
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}.self_attn"
        shared = shares_qkv(config, layer)
        for part in ("weight", "scales", "biases"):
            arrays = {
                name: weights.pop(f"{prefix}.{name}_proj.{part}")
                for name in "qkv"
                if f"{prefix}.{name}_proj.{part}" in weights
            }
            if shared and arrays:
                weights[f"{prefix}.qkv_proj.{part}"] = mx.concatenate([*arrays.values()])
            elif arrays:
                for name, array in arrays.items():
                    weights[f"{prefix}.qkv_proj.{name}_proj.{part}"] = array


def stored_as(config: ModelConfig) -> Callable[[str, nn.Module], bool | dict[str, int | str]]:
    """The predicate for `nn.quantize`: how each module of the decoder is stored."""
    own = dict(config.module_quantization)

    def storage(path: str, module: nn.Module) -> bool | dict[str, int | str]:
        name = path.replace(".qkv_proj.", ".").replace(".qkv_proj", ".q_proj")
        found = own.get(name, config.quantization)
        if found is None or not hasattr(module, "to_quantized"):
            return False
        return {"group_size": found.group_size, "bits": found.bits, "mode": found.mode}

    return storage
