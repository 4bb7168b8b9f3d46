"""The stored form of a tensor: format, names, packing, and back to float32."""

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert.sources.source import SourceTensor


def stored_as(tensor: SourceTensor, config: ModelConfig) -> Quantization | None:
    """How the output with this config stores a tensor; None: as plain numbers."""
    if len(tensor.shape) == 1:
        return None
    return config.quantization_of(tensor.name.removesuffix(".weight"))


def stored_names(name: str, quantization: Quantization | None) -> tuple[str, ...]:
    """The output's tensors for a tensor of the source: weight, scales, biases."""
    if quantization is None:
        return (name,)
    module = name.removesuffix(".weight")
    names = (name, f"{module}.scales", f"{module}.biases")
    return names if quantization.has_biases else names[:2]


def pack(steps: mx.array, *, bits: int) -> mx.array:
    """Pack (rows, columns) integers below 2**bits into uint32 (rows, columns * bits / 32).

    MLX's format: a stream of bits, each number's lowest bit first; columns are a multiple of 32.
    """
    rows, columns = steps.shape
    count = 32 // bits if 32 % bits == 0 else 8
    # Eight numbers of an odd width fill whole bytes, in up to 48 bits.
    wide = mx.uint32 if count * bits <= 32 else mx.uint64
    numbers = steps.astype(wide).reshape(rows, columns // count, count)
    shifts = mx.arange(0, count * bits, bits).astype(wide)
    words = mx.left_shift(numbers, shifts).sum(-1, keepdims=True).astype(wide)
    used = words.view(mx.uint8)[..., : count * bits // 8]
    return mx.contiguous(used.reshape(rows, -1)).view(mx.uint32)


def dequantise(stored: tuple[mx.array, ...], quantization: Quantization | None) -> mx.array:
    """Stored rows as float32 weights."""
    weight, *rest = stored
    if quantization is None:
        return weight.astype(mx.float32)
    scales, *biases = rest
    wide = scales if scales.dtype == mx.uint8 else scales.astype(mx.float32)
    return mx.dequantize(
        weight,
        wide,
        biases[0].astype(mx.float32) if biases else None,
        group_size=quantization.group_size,
        bits=quantization.bits,
        mode=quantization.mode,
    ).astype(mx.float32)
