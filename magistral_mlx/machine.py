"""The memory limit: of this machine, or of a Mac of a given size."""

import os
import re
from dataclasses import dataclass

import mlx.core as mx

from magistral_mlx.device import has_metal
from magistral_mlx.errors import RequestError

GIB = 2**30
MAC_SIZES = tuple(size * GIB for size in (8, 16, 18, 24, 32, 36, 48, 64, 96, 128, 192, 256, 512))
"""Sizes of unified memory that Macs with Apple Silicon have, in bytes."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """Bytes that the runtime may use, and where the number comes from, for messages."""

    bytes: int
    source: str


def machine_limit() -> MemoryLimit:
    """Metal's recommended working set on a Mac, physical memory elsewhere."""
    working_set = mx.device_info().get("max_recommended_working_set_size")
    if has_metal() and working_set:
        return MemoryLimit(int(working_set), "Metal's recommended working set of this Mac")
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return MemoryLimit(physical, "physical memory of this machine")


def mac_limit(memory: int) -> MemoryLimit:
    """Metal's recommended working set on a Mac with `memory` bytes, by macOS's default.

    Two thirds up to 36 GB and three quarters above: 22.9e9 bytes on a 32 GB Mac, as the model card
    reports. For the Mac that this runs on, `machine_limit` asks Metal instead.
    """
    small = memory <= 36 * GIB
    share = memory * 2 // 3 if small else memory * 3 // 4
    return MemoryLimit(share, f"{'2/3' if small else '3/4'} of a {memory / GIB:g} GB Mac")


def parse_size(text: str, *, what: str = "Memory", example: str = "32GB", kilo: int = 1024) -> int:
    """Bytes of "32GB", "32" or "512 MB". Raises RequestError.

    kilo: 1,024 for memory; 1,000 for disks, which are sold in powers of ten.
    """
    infix = "i?" if kilo == 1024 else ""
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)\s*([MGT]?){infix}B?", text.strip(), re.IGNORECASE)
    size = float(match[1]) if match else 0.0
    if match is None or size <= 0:
        raise RequestError(f"{what} {text!r} is not a size: write it as {example}.")
    return int(size * kilo ** {"M": 2, "": 3, "G": 3, "T": 4}[match[2].upper()])
