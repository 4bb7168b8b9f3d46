"""What benchmarks/engine.py promises: it ends in time with its figures, also when interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue

import pytest

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.events import Event, Failed, Finished
from magistral_mlx.kv.cache import BLOCK
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import HEAD_DIM, KV_HEADS, LAYERS, write_hf
from tests.tiny_engine import prompt

ROOT = Path(__file__).parents[2]
SCRIPT = [sys.executable, "benchmarks/engine.py", "--quick"]
LENGTHS = (3, 100, 250, 700)
DRAWN = 20
TOKEN_BYTES = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4


class Stream:
    """A stream, and the size of its cache when it ended."""

    def __init__(self, engine: Engine, length: int) -> None:
        self.held: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self.sequence: Sequence | None = None
        request = Request(
            prompt(length, seed=length),
            options=OutputOptions(
                sampling=SamplingParams(temperature=0),
                max_tokens=DRAWN,
                ignore_eos=True,
                stop_repetition=False,
            ),
        )
        self.sequence = engine.submit_to(request, self.note)

    def note(self, event: Event) -> None:
        if isinstance(event, Finished | Failed):
            self.held.put(self.sequence.kv_at_end if self.sequence else (0, 0))


def test_kv_of_streams_takes_their_lengths_and_at_most_a_block_each(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_hf(tmp_path / "tiny"))
    engine = Engine(checkpoint, Tokenizer.open(checkpoint.folder), window=2_000)
    try:
        streams = [Stream(engine, length) for length in LENGTHS]
        held = [stream.held.get(timeout=60) for stream in streams]
    finally:
        engine.close()
    for (tokens, nbytes), length in zip(held, LENGTHS, strict=True):
        assert abs(tokens - (length + DRAWN)) <= 1
        assert tokens * TOKEN_BYTES <= nbytes < (tokens + BLOCK) * TOKEN_BYTES


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_quick_measures_everything_beside_mlx_lm_on_the_same_tokens() -> None:
    done = subprocess.run(
        SCRIPT, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["complete"]
    results = report["results"]
    assert set(results) == {"streams", "gap", "second-turn"}
    one, mixed = results["streams"]
    assert one["same_tokens"] == mixed["same_tokens"] == 1
    # These depend on what is run, not on how fast: the machine may be busy.
    assert mixed["kv_megabytes"]["ratio"] > 1.5
    assert results["second-turn"][0]["prefilled"]["ours"] <= 16
    assert results["second-turn"][0]["prefilled"]["mlx_lm"] > 48
    assert results["gap"][0]["longest_s"]["ratio"] > 3


@pytest.mark.slow
def test_ctrl_c_prints_what_is_complete() -> None:
    process = subprocess.Popen(
        [*SCRIPT, "streams", "gap"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        while "megabytes of KV" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        report = json.loads(process.stdout.read().splitlines()[-1])
    assert process.returncode == 0
    assert not report["complete"]
    assert list(report["results"]) == ["streams"]


@pytest.mark.slow
def test_an_unknown_measurement_is_refused_with_the_names_there_are() -> None:
    done = subprocess.run(
        [*SCRIPT, "fast"], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "'fast'" in done.stderr
    assert "second-turn" in done.stderr


def environment() -> dict[str, str]:
    """This checkout's package, whatever is installed."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
