"""Peak memory and wall time of a conversion, in turn with mlx-lm's on the same random checkpoint.

python benchmarks/convert.py --gigabytes 1.5 3 3.55
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import rmtree

from magistral_mlx.bench.bench_model import random_shape
from magistral_mlx.bench.report_parts import json_line
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.memory.byte_counts import weight_bytes

ROOT = Path(__file__).resolve().parents[1]
OURS = "import magistral_mlx.convert as c; c.convert({source!r}, {output!r})"
OURS_ROUNDED = OURS.replace("{output!r}", "{output!r}, c.ConversionOptions(rtn=True)")
THEIRS = "import mlx_lm; mlx_lm.convert({source!r}, {output!r}, quantize=True)"
PEAK = """
import pathlib, re, resource, sys
status = pathlib.Path("/proc/self/status")
if status.exists():
    peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1])
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("peak", peak)
"""


@dataclass(frozen=True, slots=True)
class ConversionCost:
    """Of one conversion: bytes of the checkpoint, seconds, and the most resident bytes."""

    program: str
    source_bytes: int
    seconds: float
    peak_bytes: int


def main() -> None:
    """Convert checkpoints of several sizes, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1.5, 3.0, 3.55])
    parser.add_argument("--search-gigabytes", type=float, default=0.75)
    options = parser.parse_args()
    rounded, fitted, theirs = "magistral-mlx --rtn", "magistral-mlx", "mlx-lm"
    runs = [(size, {rounded: OURS_ROUNDED, theirs: THEIRS}) for size in options.gigabytes]
    runs.append((options.search_gigabytes, {rounded: OURS_ROUNDED, fitted: OURS}))
    costs: list[ConversionCost] = []
    for gigabytes, programs in runs:
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "source"
            size = random_checkpoint(source, gigabytes)
            costs += [convert(source, size, name, text) for name, text in programs.items()]
    print("| checkpoint | program | seconds | peak memory |\n|---:|---|---:|---:|")
    for cost in costs:
        sizes = f"{cost.source_bytes / 1e9:.2f} GB", f"{cost.peak_bytes / 1e6:,.0f} MB"
        print(f"| {sizes[0]} | {cost.program} | {cost.seconds:.1f} | {sizes[1]} |")
    print(json_line("convert", {"runs": [asdict(cost) for cost in costs]}))


def convert(source: Path, size: int, name: str, program: str) -> ConversionCost:
    """Run one conversion in its own process."""
    output = source.with_name("output")
    text = program.format(source=str(source), output=str(output)) + "\n" + PEAK
    command = [sys.executable, "-c", text]
    started = time.monotonic()
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - started
    rmtree(output)
    print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return ConversionCost(name, size, seconds, int(ended.stdout.rpartition("peak ")[2]))


def random_checkpoint(folder: Path, gigabytes: float) -> int:
    """Write a checkpoint of about this size in bfloat16; returns the bytes of its weights."""
    one, two = (weight_bytes(shape(layers), "bfloat16") for layers in (1, 2))
    config = shape(max(1, round((gigabytes * 1e9 - one) / (two - one)) + 1))
    write_random_model(folder, config)
    return weight_bytes(config, "bfloat16")


def shape(layers: int) -> ModelConfig:
    """A quarter of Magistral's width: the vocabulary is whole, so the layers are most of it."""
    small = random_shape(
        layers, width=1_280, heads=(32, 8), inner=8_192, vocabulary=131_072, dtype="bfloat16"
    )
    return replace(small, head_dim=32, quantization=None)


if __name__ == "__main__":
    main()
