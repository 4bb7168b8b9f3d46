"""Peak memory of a conversion does not depend on the model's size."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.sample_checkpoints import HF_CONFIG, edit_json, small_tekken

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300 << 20
RUNS = 3

# Linux counts the parent's memory in ru_maxrss of a child; VmHWM starts anew with the program.
CONVERT = """
import pathlib, re, resource, sys
from magistral_mlx.convert import ConversionOptions, convert
convert(sys.argv[1], sys.argv[2], ConversionOptions(rtn=True))
if sys.platform == "darwin":
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
else:
    status = pathlib.Path("/proc/self/status").read_text()
    print(1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]))
"""


def write_large(folder: Path, *, layers: int, inner: int) -> int:
    """Zeros on the disk with random rows between them; returns the bytes of the weights.

    Shapes have Magistral's proportions: the largest matrix alone is 4 times a row block.
    """
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(HF_CONFIG))
    edit_json(folder / "config.json", num_hidden_layers=layers, intermediate_size=inner)
    edit_json(folder / "config.json", hidden_size=2048)
    (folder / "tekken.json").write_text(small_tekken())
    shapes = {"model.embed_tokens.weight": [2000, 2048], "lm_head.weight": [2000, 2048]}
    for layer in range(layers):
        start = f"model.layers.{layer}"
        shapes |= {
            f"{start}.self_attn.q_proj.weight": [256, 2048],
            f"{start}.self_attn.k_proj.weight": [128, 2048],
            f"{start}.self_attn.v_proj.weight": [128, 2048],
            f"{start}.self_attn.o_proj.weight": [2048, 256],
            f"{start}.mlp.gate_proj.weight": [inner, 2048],
            f"{start}.mlp.up_proj.weight": [inner, 2048],
            f"{start}.mlp.down_proj.weight": [2048, inner],
            f"{start}.input_layernorm.weight": [2048],
            f"{start}.post_attention_layernorm.weight": [2048],
        }
    shapes["model.norm.weight"] = [2048]
    return _write(folder / "model.safetensors", shapes)


def _write(path: Path, shapes: dict[str, list[int]]) -> int:
    header: dict[str, object] = {}
    position = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        offsets = [position, position + size]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": offsets}
        position += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        # Small random bf16 numbers: the upper byte of the exponent is held at 0x3d.
        block = np.random.default_rng(0).integers(0x3D00, 0x3D80, 1 << 20, dtype=np.uint16)
        for start in range(0, position, block.nbytes):
            file.write(block.tobytes()[: position - start])
    return position


def peak_bytes(source: Path, output: Path) -> int:
    command = [sys.executable, "-c", CONVERT, str(source), str(output)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(ended.stdout)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_peak_memory_is_the_same_for_a_model_seven_times_the_size(tmp_path: Path) -> None:
    small = write_large(tmp_path / "small", layers=1, inner=16384)
    large = write_large(tmp_path / "large", layers=4, inner=32768)
    assert small > 200e6
    assert large > 1.6e9
    # The number of blocks in memory depends on the threads' pace: the smallest peak is the need.
    small_peaks, large_peaks = (
        [peak_bytes(tmp_path / name, tmp_path / f"{name}-out{run}") for run in range(RUNS)]
        for name in ("small", "large")
    )
    assert max(large_peaks) < LIMIT, large_peaks
    assert min(large_peaks) < 1.1 * min(small_peaks), (small_peaks, large_peaks)


CALIBRATE = CONVERT.replace(
    "from magistral_mlx.convert import ConversionOptions, convert",
    "from pathlib import Path\nfrom magistral_mlx.convert import ConversionOptions, convert",
).replace("rtn=True)", "calibrate=Path(sys.argv[3])), on_note=lambda note: print(note)")


def write_text(path: Path) -> Path:
    path.write_text((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_calibration_keeps_to_the_memory_that_it_states(tmp_path: Path) -> None:
    """Bound and peak are of one layer: twice the layers take no more."""
    text, peaks = write_text(tmp_path / "text.txt"), []
    for layers in (1, 2):
        write_large(tmp_path / f"in{layers}", layers=layers, inner=2048)
        command = [sys.executable, "-c", CALIBRATE, f"in{layers}", f"out{layers}", str(text)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        ended = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment
        )
        *_, note, peak = ended.stdout.splitlines()
        stated = re.search(r"at most ([\d.]+) GB of memory", note)
        assert stated is not None, note
        assert int(peak) < 1e9 * float(stated[1])
        peaks.append(int(peak))
    assert peaks[1] < 1.1 * peaks[0]
