"""The plan's bytes against the peak that MLX measures while the engine prefills and decodes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from magistral_mlx.api import open_model
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.device import has_metal
from magistral_mlx.engine.request import Request
from magistral_mlx.events import Finished
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams

ROOT = Path(__file__).parents[2]
WINDOWS = (512, 768, 1_024)
DECODED = 16

SHAPE = ModelConfig(
    vocab_size=131_072,  # weights that take memory and next to no time
    hidden_size=128,
    intermediate_size=64,
    num_hidden_layers=96,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=64,
    rms_norm_eps=1e-5,
    rope_theta=1e9,
    max_position_embeddings=4_096,
    tie_word_embeddings=False,
    dtype="float32",
    quantization=None,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(has_metal(), reason="measures MLX's CPU backend"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("random") / "model", SHAPE)


@pytest.mark.parametrize("bits", [32, 8])
def test_the_planned_bytes_are_within_a_tenth_of_the_measured_peak_at_three_windows(
    folder: Path, bits: int
) -> None:
    runs = [peak_in_a_process_of_its_own(folder, window, bits) for window in WINDOWS]
    for run in runs:
        assert run["planned"] == pytest.approx(run["peak"], rel=0.1), run
    # What the longer context adds is KV: the weights, which are most of a peak, cancel out.
    grown = runs[-1]["peak"] - runs[0]["peak"]
    assert runs[-1]["planned"] - runs[0]["planned"] == pytest.approx(grown, rel=0.2), runs


def peak_in_a_process_of_its_own(folder: Path, window: int, bits: int) -> dict[str, int]:
    """What another test has allocated must not count."""
    code = "from tests.memory.test_memory_measured import main; main()"
    command = [sys.executable, "-c", code, str(folder), str(window), str(bits)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, int] = json.loads(done.stdout)
    return result


def main() -> None:
    """Fill a window with a prompt and decoded tokens; print the plan and the peak as JSON."""
    folder, window, bits = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    request = Request(
        tuple(1_000 + 7 * i % 130_000 for i in range(window - DECODED)),
        options=OutputOptions(
            sampling=SamplingParams(temperature=0), ignore_eos=True, stop_repetition=False
        ),
    )
    with open_model(folder, window=window, kv_bits=bits) as model:
        plan = model.plan
        *_, end = model.engine.submit(request)
    assert isinstance(end, Finished), end
    assert end.usage.completion_tokens == DECODED, end
    planned = {"weights": plan.weights, "kv": plan.kv, "step": plan.step}
    peak = end.timings.peak_memory_bytes
    sys.stdout.write(json.dumps(planned | {"planned": sum(planned.values()), "peak": peak}))
