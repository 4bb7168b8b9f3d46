"""Whole numbers of a few bits, packed as MLX packs quantised weights."""

import mlx.core as mx


def pack(steps: mx.array, *, bits: int) -> mx.array:
    """Pack (rows, columns) whole numbers below 2**bits into uint32 (rows, columns * bits / 32).

    The numbers are a stream of bits, each number's lowest bit first; columns are a multiple of 32.
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
