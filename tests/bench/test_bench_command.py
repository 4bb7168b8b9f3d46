"""magistral-mlx bench, with made-up weights and with a small folder."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner, Result

from magistral_mlx.bench.bench_model import narrow_shape
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import default_output
from magistral_mlx.demo.random_model import random_tensors, write_random_model
from magistral_mlx.opening import remember_model
from magistral_mlx.terminal.cli import app

ROOT = Path(__file__).parents[2]
ONE = ("--prompts", "20", "--streams", "1", "--kv", "16", "--tokens", "16", "--rounds", "1")
TINY = ("--prompts", "20,60", "--streams", "1,2", "--kv", "16,8", "--tokens", "16", "--rounds", "1")


@pytest.fixture(autouse=True)
def small_and_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magistral_mlx.bench.bandwidth.LARGEST", 40_000_000)
    monkeypatch.setenv("MAGISTRAL_MLX_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MAGISTRAL_MLX_DATA", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("bench") / "tiny", narrow_shape(2))


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments])


def report(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("model", ["folder", pytest.param("made up", marks=pytest.mark.slow)])
def test_cases_are_measured_kept_and_drawn(tmp_path: Path, folder: Path, model: str) -> None:
    plot = tmp_path / "plots" / "tps.png"
    words = [str(folder)] if model == "folder" else ["--synthetic", "small"]
    done = bench(*words, *TINY, "--save", "--plot", str(plot), "--predict", "M4")
    found = report(done)
    assert found["complete"]
    assert [(c["prompt"], c["streams"], c["kv_bits"]) for c in found["cases"]] == [
        (20, 1, 16),
        (60, 1, 16),
        (60, 2, 16),
        (60, 1, 8),
    ]
    for case in found["cases"]:
        assert case["first_token_known_prefix_s"]["median"] > 0
        assert case["peak_memory_bytes"] > found["model"]["weight_bytes"]
        expected = case["decode_tokens_s"]["median"] / case["decode_bound_tokens_s"]
        assert case["reached"] == pytest.approx(expected, rel=0.01)
        assert set(case["predicted"]) >= {"M4", "M4 Pro"}
    assert "Predictions, not measurements" in done.stdout
    (line,) = (tmp_path / "data/benchmarks/tps.jsonl").read_text().splitlines()
    assert json.loads(line) == found
    assert {"chip", "memory_bytes", "system", "power_mode", "load"} <= set(found["machine"])
    picture = imread(plot)
    assert picture[0, 0, 3] == 0
    assert np.count_nonzero(picture[..., 3]) > 1_000
    assert plot.with_suffix(".svg").read_text().startswith("<?xml")


def test_results_are_added_to_the_file_that_is_named(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "mine.jsonl"
    for _ in range(2):
        report(bench(str(folder), *ONE, "--results", str(file)))
    dates = [json.loads(line)["date"] for line in file.read_text().splitlines()]
    assert len(dates) == 2


def test_without_a_name_it_is_the_model_used_last_or_else_the_demo(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGISTRAL_MLX_MODELS", str(tmp_path / "models"))
    write_random_model(default_output("demo", bits=4), narrow_shape(1))
    done = bench(*ONE)
    assert report(done)["model"]["name"].startswith("demo-")
    assert "No model has been used yet" in done.stderr
    remember_model(str(folder), state=tmp_path / "state")
    assert report(bench(*ONE))["model"]["name"] == folder.name


def test_a_case_that_does_not_fit_is_one_line_and_no_error(folder: Path) -> None:
    done = bench(str(folder), "--prompts", "20,5k", "--streams", "1", "--kv", "16")
    assert [case["prompt"] for case in report(done)["cases"]] == [20]
    assert "Left out: prompt 5,000, 1 stream: 5,064 tokens, and the window holds" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompts", "many"), "--prompts 'many' is no list"),
        (("--streams", "9"), "--streams goes from 1 to 8"),
        (("--kv", "5"), "5 bits is not possible"),
        (("--tokens", "3"), "at least 16"),
        (("--synthetic", "70b"), "choose 24b or small"),
        (("demo", "--synthetic", "small"), "leave demo out"),
        (("--compare", "ollama"), "--compare 'ollama' is unknown"),
        (("--compare", "llama.cpp"), "needs the path of llama-bench"),
        (("--predict", "M99"), "no chip 'M99'"),
        (("/nowhere",), "no model '/nowhere'"),
        (("demo", "other"), "one model at a time"),
        (("--synthetic", "small", "--split", "layers"), "give several ranks a model instead"),
    ],
)
def test_what_is_refused_is_one_message_and_exit_2(
    arguments: tuple[str, ...], message: str
) -> None:
    done = bench(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("arguments", [("--synthetic", "small"), ("demo", "--compare", "mlx-lm")])
def test_what_runs_in_one_process_is_refused_on_every_rank_before_any_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, arguments: tuple[str, ...]
) -> None:
    hosts = tmp_path / "hosts.json"
    hosts.write_text('[["127.0.0.1:20000"], ["127.0.0.1:20001"]]')
    monkeypatch.setenv("MLX_RANK", rank)
    monkeypatch.setenv("MLX_HOSTFILE", str(hosts))
    done = bench(*arguments)
    assert done.exit_code == 2
    assert "in one process" in done.stderr
    assert done.stdout == ""


def test_a_large_matrix_is_made_in_blocks_of_rows_that_differ(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = open_checkpoint(folder).config
    whole = dict(random_tensors(config))
    monkeypatch.setattr("magistral_mlx.demo.random_model.BLOCK_WEIGHTS", 64 * 600)
    blocks = dict(random_tensors(config))
    assert {n: (a.shape, a.dtype) for n, a in blocks.items()} == {
        n: (a.shape, a.dtype) for n, a in whole.items()
    }
    for tensors in (whole, blocks):  # control tokens are never drawn
        scales = mx.abs(tensors["lm_head.scales"])
        assert float(np.max(np.array(scales[:1_000]))) < 1e-6
        assert float(np.min(np.array(scales[1_000:]))) > 1e-3
    rows = blocks["model.embed_tokens.weight"]
    assert not mx.array_equal(rows[:600], rows[600:1_200]).item()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ctrl_c_prints_what_is_done_and_exits_with_130(folder: Path) -> None:
    command = [sys.executable, "-u", "-m", "magistral_mlx", "bench", str(folder), "--rounds", "500"]
    axes = ("--prompts", "20,4k", "--streams", "1", "--kv", "16", "--tokens", "16")
    process = subprocess.Popen(
        [*command, *axes],
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "FORCE_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        seen = ""
        while "prompt 20" not in seen or "3/1000" not in seen:
            seen += process.stderr.read(1)
            assert process.poll() is None, seen
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate()
    found = json.loads(out.splitlines()[-1])
    assert process.returncode == 130, errors
    assert not found["complete"]
    assert [case["prompt"] for case in found["cases"]] == [20]
