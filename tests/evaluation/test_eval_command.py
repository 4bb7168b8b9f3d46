"""magistral-mlx eval, with the model that comes with the package."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from magistral_mlx.evaluation.run_folder import SAMPLES_FILE
from magistral_mlx.evaluation.sample import Sample, read_sample
from magistral_mlx.terminal.cli import app

ROOT = Path(__file__).parents[2]
SHORT = ("--max-tokens", "20", "--think", "8")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(demo_folder, folder / demo_folder.name)
    return folder


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGISTRAL_MLX_MODELS", str(models))
    monkeypatch.setenv("MAGISTRAL_MLX_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def evaluate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["eval", *arguments])


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "magistral_mlx", "eval", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def samples(folder: Path) -> list[Sample]:
    """Samples that are whole; none when there is no file yet."""
    file = folder / SAMPLES_FILE
    content = file.read_text(encoding="utf-8") if file.exists() else ""
    return [read_sample(line) for line in content.splitlines(keepends=True) if line[-1] == "\n"]


def wait_for_samples(folder: Path, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 100
    while len(samples(folder)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def texts(folder: Path) -> dict[tuple[str, int], tuple[str, str]]:
    return {each.key: (each.reasoning, each.answer) for each in samples(folder)}


def test_the_demo_is_evaluated_and_reported(tmp_path: Path) -> None:
    done = evaluate("demo", "--questions", "2", "--output", "run")
    assert done.exit_code == 0, done.output
    assert "Held-out arithmetic, demo-" in done.stdout
    assert done.stderr.splitlines()[-1] == "2 of 2 samples, 100.0 % right"
    assert [each.right for each in samples(tmp_path / "run")] == [True, True]
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["results"]["pass_at_1"]["value"] == 1
    assert report["settings"]["temperature"] == 0
    assert [row["language"] for row in report["languages"]] == ["en", "fr", "all"]
    assert "demo, published | 99.8 | inside" in (tmp_path / "run/report.md").read_text()
    # The same command finds everything there.
    again = evaluate("demo", "--questions", "2", "--output", "run", "--json")
    assert json.loads(again.stdout)["results"] == report["results"]
    assert len(samples(tmp_path / "run")) == 2


def test_more_samples_and_questions_go_on_with_those_that_are_there(tmp_path: Path) -> None:
    options = ("--temperature", "0.7", *SHORT, "--output", "run")
    assert evaluate("demo", "--questions", "1", "-k", "2", *options).exit_code == 0
    before = texts(tmp_path / "run")
    done = evaluate("demo", "--questions", "2", "-k", "3", *options)
    assert done.exit_code == 0
    assert "pass@2" in done.stdout
    assert "maj@3" in done.stdout
    after = texts(tmp_path / "run")
    assert len(after) == 6
    assert before.items() <= after.items()
    assert len({each.seed for each in samples(tmp_path / "run")}) == 6


def test_another_setting_starts_another_folder_and_is_refused_in_the_same_one(
    tmp_path: Path,
) -> None:
    options = ("demo", "--questions", "1", *SHORT)
    assert evaluate(*options).exit_code == 0
    assert evaluate(*options, "--kv-bits", "8").exit_code == 0
    runs = list((tmp_path / "state/evaluations").glob("*/demo-*"))
    assert len(runs) == 2
    refused = evaluate(*options, "--kv-bits", "4", "--output", str(runs[0]))
    assert refused.exit_code == 2
    assert "holds a run with other settings (kv_bits" in refused.output
    assert len(samples(runs[0])) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", "-k", "2", "--temperature", "0"), "At temperature 0 all 2 samples"),
        (("demo", "-k", "0"), "There cannot be 0 samples"),
        (("demo", "aime24"), "several sets"),
        (("nothing", "--model", "demo"), "There are no questions 'nothing'"),
        (("demo", "--sweep", "bits=7"), "bits=7 cannot be swept"),
        (("demo", "--sweep", "kv=8", "speed=1"), "'speed=1' is not an axis"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_one_message(
    arguments: tuple[str, ...], message: str
) -> None:
    refused = evaluate(*arguments)
    assert refused.exit_code == 2
    assert message in refused.output
    assert "Traceback" not in refused.output


def test_ctrl_c_prints_what_is_done_and_keeps_it(tmp_path: Path) -> None:
    options = ("demo", "--questions", "40", *SHORT, "--output", "run")
    process = start(*options)
    wait_for_samples(tmp_path / "run", 2, process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    kept = len(samples(tmp_path / "run"))
    assert 2 <= kept < 40
    assert f"{kept} of 40 samples" in output
    assert "the same command resumes" in output
    assert "Traceback" not in errors
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert (report["results"]["done"], report["results"]["wanted"]) == (kept, 40)


def test_a_sweep_gives_one_table_and_one_plot(tmp_path: Path) -> None:
    words = ("demo", "--questions", "1", *SHORT, "--output", "sweep")
    done = evaluate(*words, "--sweep", "kv=16,4", "budget=4,none")
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "sweep/sweep.json").read_text())
    points = [(each["settings"]["kv_bits"], each["point"]["budget"]) for each in data["points"]]
    assert points == [(16, 4), (16, "none"), (4, 4), (4, "none")]
    assert [each["settings"]["thinking_budget"] for each in data["points"]] == [4, None, 4, None]
    page = (tmp_path / "sweep/sweep.md").read_text()
    assert page.count(" bits | ") >= 4
    assert (tmp_path / "sweep/sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "kv4-budget4" in {path.name for path in (tmp_path / "sweep").iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_point_it_goes_on_and_gives_the_same_samples(tmp_path: Path) -> None:
    options = ("demo", "--questions", "6", "-k", "2", *SHORT)
    whole = start(*options, "--output", "whole")
    assert whole.wait(timeout=200) == 0
    kills = 0
    for count in (0, 1, 3, 4, 7, 9, 11):
        process = start(*options, "--output", "killed")
        wait_for_samples(tmp_path / "killed", count, process)
        process.kill()
        process.communicate()
        kills += 1
    last = start(*options, "--output", "killed")
    assert last.wait(timeout=200) == 0
    assert texts(tmp_path / "killed") == texts(tmp_path / "whole")
    assert len(samples(tmp_path / "killed")) == 12
    assert kills == 7


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    refused = evaluate("demo")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "eval needs duckdb: install it with pip install 'magistral-mlx[eval]'.\n"
    )
