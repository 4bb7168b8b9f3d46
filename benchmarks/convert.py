"""Peak memory and wall time of a conversion, in turn with mlx-lm's on the same checkpoint.

    python benchmarks/convert.py --gigabytes 1.5 3 3.55

The checkpoint has Magistral's tensor names and proportions, its vocabulary, and random weights.
Every conversion runs in a process of its own.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.weight_shapes import plain_shapes
from magistral_mlx.demo.tekken import write_tekken

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = 1280
"""A quarter of Magistral's width: the vocabulary is whole, so the layers make up most of it."""

OURS = "from magistral_mlx.convert import convert; convert({source!r}, {output!r}, rtn={rtn})"
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
class Run:
    """One conversion: bytes of the checkpoint, seconds, and most bytes resident."""

    program: str
    source_bytes: int
    seconds: float
    peak_bytes: int


def main() -> None:
    """Convert checkpoints of several sizes, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1.5, 3.0, 3.55])
    parser.add_argument("--search-gigabytes", type=float, default=0.75)
    options = parser.parse_args()
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as scratch:
        for gigabytes in options.gigabytes:
            source, size = write_checkpoint(Path(scratch) / "source", gigabytes)
            runs.append(convert(source, size, "magistral-mlx --rtn", ours(rtn=True)))
            runs.append(convert(source, size, "mlx-lm", THEIRS))
            remove(source)
        source, size = write_checkpoint(Path(scratch) / "source", options.search_gigabytes)
        runs.append(convert(source, size, "magistral-mlx --rtn", ours(rtn=True)))
        runs.append(convert(source, size, "magistral-mlx", ours(rtn=False)))
    print_table(runs)
    print(json.dumps({"benchmark": "convert", "runs": [asdict(run) for run in runs], **machine()}))


def ours(*, rtn: bool) -> str:
    """The program of our conversion, with source and output to be filled in."""
    return OURS.replace("{rtn}", str(rtn))


def convert(source: Path, size: int, name: str, program: str) -> Run:
    """Run one conversion in a process of its own."""
    output = source.with_name("output")
    text = program.format(source=str(source), output=str(output)) + "\n" + PEAK
    started = time.monotonic()
    command = [sys.executable, "-c", text]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - started
    remove(output)
    run = Run(name, size, seconds, int(ended.stdout.rpartition("peak ")[2]))
    print(
        f"{name}: {size / 1e9:.2f} GB, {seconds:.0f} s, {run.peak_bytes / 1e6:.0f} MB", flush=True
    )
    return run


def write_checkpoint(folder: Path, gigabytes: float) -> tuple[Path, int]:
    """A checkpoint of about so many gigabytes in bfloat16; the folder, and its weights' bytes."""
    folder.mkdir()
    fields: dict[str, object] = {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "vocab_size": 131_072,
        "hidden_size": HIDDEN,
        "intermediate_size": HIDDEN * 32 // 5,
        "num_hidden_layers": 1,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 32,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e9,
        "max_position_embeddings": 40_960,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    one, two = bytes_of(fields), bytes_of(fields | {"num_hidden_layers": 2})
    layers = max(1, round((gigabytes * 1e9 - one) / (two - one)) + 1)
    fields["num_hidden_layers"] = layers
    (folder / "config.json").write_text(json.dumps(fields))
    write_tekken(folder / "tekken.json")
    write_weights(folder / "model.safetensors", plain_shapes(ModelConfig.from_hf(fields)))
    return folder, bytes_of(fields)


def bytes_of(fields: dict[str, object]) -> int:
    """Bytes of the weights in bfloat16."""
    shapes = plain_shapes(ModelConfig.from_hf(fields)).values()
    return sum(2 * int(np.prod(shape)) for shape in shapes)


def write_weights(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Normal numbers of deviation 0.02, the same 32 MB over and over."""
    header: dict[str, object] = {}
    position = 0
    for name, shape in shapes.items():
        stop = position + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(header).encode()
    numbers = np.random.default_rng(0).normal(0, 0.02, 16 << 20).astype(np.float32)
    block = (numbers.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        while position:
            count = min(position, len(block))
            file.write(block[:count])
            position -= count


def remove(folder: Path) -> None:
    """Delete a folder of files."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def print_table(runs: list[Run]) -> None:
    """One row a conversion, as benchmarks/README.md shows them."""
    print("| checkpoint | program | seconds | peak memory |")
    print("|---:|---|---:|---:|")
    for run in runs:
        size, peak = f"{run.source_bytes / 1e9:.2f} GB", f"{run.peak_bytes / 1e6:,.0f} MB"
        print(f"| {size} | {run.program} | {run.seconds:.0f} | {peak} |")


def machine() -> dict[str, str]:
    """Where and with what it ran."""
    return {
        "date": date.today().isoformat(),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "mlx": version("mlx"),
        "mlx_lm": version("mlx-lm"),
    }


if __name__ == "__main__":
    main()
