"""A calibrated conversion that was killed walks again over what is finished, to the same bytes."""

import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from random import Random

import pytest
import torch

from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.convert.output.journal import has_finished_tensors
from magistral_mlx.convert.output.output_folder import Workplace
from tests.convert.test_convert_atomic import ROOT
from tests.convert.test_convert_resume import same_bytes
from tests.sample_llama import write_llama

PROGRAM = """
import sys
from pathlib import Path
from magistral_mlx.convert import ConversionOptions, convert
convert(
    sys.argv[1],
    sys.argv[2],
    ConversionOptions(group_size=32, calibrate=Path(sys.argv[3])),
    on_progress=lambda progress: print(progress.tensor, flush=True),
)
"""

KILLS = 4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_at_random_moments_of_a_calibration_give_the_bytes_of_a_run_without(
    tmp_path: Path,
) -> None:
    source = write_llama(tmp_path / "source", dtype=torch.bfloat16)
    text = tmp_path / "text.txt"
    text.write_text((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")[:4_000])
    whole = convert(source, tmp_path / "whole", ConversionOptions(group_size=32, calibrate=text))
    moments = Random(7)
    kills = 0
    for number in count():
        if kills >= KILLS:
            break
        output = tmp_path / f"out-{number}"
        while kills < KILLS and killed_after(moments, source, output, text):
            if output.exists():
                break
            assert has_finished_tensors(Workplace(output).journal)
            kills += 1
        assert same_bytes(
            convert(source, output, ConversionOptions(group_size=32, calibrate=text, force=True)),
            whole,
        )


def killed_after(moments: Random, source: Path, output: Path, text: Path) -> bool:
    """Kill a run some tensors further and in the middle of the next, unless it ends before."""
    command = [sys.executable, "-c", PROGRAM, str(source), str(output), str(text)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(moments.randint(1, 5)):
            process.stdout.readline()
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
    return process.returncode == -signal.SIGKILL
