"""The commands, end to end with the model that comes with the package."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import magistral_mlx
from magistral_mlx.convert import default_output
from magistral_mlx.machine import GIB, mac_limit
from magistral_mlx.memory.plan import magistral_small, plan
from magistral_mlx.opening import remember_model
from magistral_mlx.spec import VERSION
from magistral_mlx.terminal.cli import app

ROOT = Path(__file__).parents[2]
QUESTION = "What is 21 + 34?"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Path:
    """A folder of converted models that holds the demo."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(demo_folder, folder / demo_name())
    return folder


@pytest.fixture
def state(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has the demo and has used no model yet."""
    folder = tmp_path / "state"
    monkeypatch.setenv("MAGISTRAL_MLX_MODELS", str(models))
    monkeypatch.setenv("MAGISTRAL_MLX_STATE", str(folder))
    return folder


@pytest.fixture(scope="module")
def expected(models: Path) -> magistral_mlx.Reply:
    """A short greedy reply to QUESTION by the Python API."""
    options = magistral_mlx.GenerationOptions(
        sampling=magistral_mlx.SamplingParams(temperature=0), thinking_budget=12, max_tokens=60
    )
    with magistral_mlx.open_model(models / demo_name()) as model:
        return model.generate(QUESTION, options)


def demo_name() -> str:
    return default_output("demo", bits=4).name


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=stdin)


def ask(*arguments: str, stdin: str | None = None) -> Result:
    """Ask the demo as `expected` was asked; later options win."""
    options = ["--model", "demo", "--temperature", "0", "--think", "12", "--max-tokens", "60"]
    return run("ask", *options, *arguments, stdin=stdin)


def start(*arguments: str) -> "subprocess.Popen[str]":
    """The program in its own process, with unbuffered pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "magistral_mlx", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_version() -> None:
    assert run("--version").stdout == f"magistral-mlx {VERSION}\n"


@pytest.mark.parametrize("command", ["ask", "chat", "app", "serve", "plan", "eval"])
def test_help_shows_window_and_not_its_older_name(command: str) -> None:
    shown = run(command, "--help").stdout
    assert "--window" in shown
    assert "max-context" not in shown


def test_the_older_name_of_window_still_works_in_every_form(state: Path) -> None:
    for words in (
        ["--max-context", "20"],
        ["--max-context=20"],
        ["--window", "9", "--max-context=20"],
    ):
        assert "the window holds 20" in run("ask", "hi", "--model", "demo", *words).stderr
    assert json.loads(run("plan", "--max-context", "512", "--json").stdout)["window"] == 512


def test_without_a_model_ask_and_chat_name_the_three_ways_and_exit_with_2(state: Path) -> None:
    result = run("ask", "hello")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Three ways" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ask", "hi", "--model", "no/such-model"], "magistral-mlx convert"),
        (["ask", "hi", "--model", str(ROOT / "tests")], "config.json"),
        (["ask", "hi", "--model", "demo", "--temperature", "-1"], "temperature is -1"),
        (["ask", "hi", "--model", "demo", "--think", "-5"], "thinking_budget is -5"),
        (["ask", "hi", "--model", "demo", "--window", "20"], "the window holds 20"),
        (["ask", "hi", "--model", "demo", "--window", "999999999"], "not possible"),
        (["ask", " ", "--model", "demo"], "The question is empty"),
        (["chat", "--model", "demo"], "use magistral-mlx ask"),
        (["plan", "--memory", "lots"], "32GB"),
        (["plan", "--memory", "8GB"], "a Mac with 24 GB"),
        (["plan", "--window", "0"], "1 to 131,072"),
        (["convert", "no-such-folder"], "no-such-folder"),
    ],
)
def test_what_is_refused_is_one_line_and_exit_2(
    arguments: list[str], said: str, state: Path
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_json_is_what_the_python_api_gives(state: Path, expected: magistral_mlx.Reply) -> None:
    found = json.loads(ask(QUESTION, "--json").stdout)
    assert found["reasoning"] == expected.reasoning
    assert found["answer"] == expected.answer
    assert found["finish_reason"] == expected.finish_reason
    assert found["usage"]["completion_tokens"] == expected.usage.completion_tokens
    assert found["timings"]["seconds_to_first_token"] > 0


def test_a_pipe_gets_the_answer_alone(state: Path, expected: magistral_mlx.Reply) -> None:
    assert ask(QUESTION).stdout == expected.answer.rstrip("\n") + "\n"


def test_a_dash_reads_the_question_from_standard_input(
    state: Path, expected: magistral_mlx.Reply
) -> None:
    result = ask("-", "--show-reasoning", stdin=QUESTION)
    assert result.stdout == expected.answer.rstrip("\n") + "\n"
    assert expected.reasoning.strip() in result.stderr


def test_the_model_used_last_is_used_when_none_is_named(state: Path) -> None:
    assert ask(QUESTION, "--max-tokens", "3").exit_code == 0
    assert run("ask", QUESTION, "--max-tokens", "3").exit_code == 0


def test_options_reach_the_model(state: Path) -> None:
    cut = json.loads(ask(QUESTION, "--json", "--max-tokens", "7").stdout)
    assert (cut["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 7)
    budget = json.loads(ask(QUESTION, "--json", "--think", "4", "--max-tokens", "60").stdout)
    assert budget["reasoning_closed_by_force"]
    assert budget["usage"]["reasoning_tokens"] <= 5
    off = json.loads(ask(QUESTION, "--json", "--reasoning", "off", "--max-tokens", "20").stdout)
    assert off["reasoning"] == ""
    plain = ["--system", "Add.", "--system-mode", "replace", "--reasoning", "on"]
    short = json.loads(ask(QUESTION, "--json", "--max-tokens", "1", *plain).stdout)
    assert short["usage"]["prompt_tokens"] < off["usage"]["prompt_tokens"]


def test_a_seed_gives_the_same_reply_twice_and_another_seed_another(state: Path) -> None:
    def draw(seed: str) -> str:
        options = ["--json", "--max-tokens", "30", "--temperature", "3", "--top-p", "1"]
        found = json.loads(run("ask", "hi", "--model", "demo", "--seed", seed, *options).stdout)
        return str(found["reasoning"] + found["answer"])

    assert draw("1") == draw("1") != draw("2")


def test_plan_prints_the_numbers_of_the_plan(state: Path) -> None:
    made = plan(magistral_small(), mac_limit(32 * GIB))
    found = json.loads(run("plan", "--memory", "32GB", "--json").stdout)
    assert found["weights"] == made.weights
    assert found["window"] == made.window
    table = run("plan", "--memory", "32GB").stdout
    for shown in ("13.3 GB", "6.7 GB", "22.9 GB", "163,840 B", "87,040 B", "46,080 B", "40,960"):
        assert shown in table
    assert table.count("possible") == 2


def test_plan_reads_the_shape_of_a_converted_model(state: Path, models: Path) -> None:
    stored = sum(path.stat().st_size for path in models.glob(f"{demo_name()}/*.safetensors"))
    found = json.loads(run("plan", "--model", "demo", "--memory", "16GB", "--json").stdout)
    assert found["model"] == demo_name()
    assert found["weights"] == pytest.approx(stored, rel=0.01)


def test_convert_writes_a_folder_that_ask_opens(state: Path, tmp_path: Path) -> None:
    done = run("convert", "demo", str(tmp_path / "mine"), "--bits", "8")
    assert done.stdout.strip() == str(tmp_path / "mine")
    assert run("ask", "hi", "--model", str(tmp_path / "mine"), "--max-tokens", "2").exit_code == 0


def test_ctrl_c_exits_with_130_and_keeps_what_was_printed(state: Path) -> None:
    process = start("ask", "hello", "--model", "demo", "--show-reasoning", "--reasoning", "on")
    assert process.stderr
    first = process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert first.strip()
    assert "Traceback" not in rest


def test_a_closed_pipe_ends_the_program_without_a_traceback(state: Path) -> None:
    process = start("ask", QUESTION, "--model", "demo", "--json", "--max-tokens", "3")
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert "Traceback" not in process.stderr.read()
    assert process.wait(timeout=60) == 1


def test_the_demo_answers_both_questions_and_says_what_comes_next(state: Path) -> None:
    process = start("demo")
    out, errors = process.communicate(timeout=110)
    assert process.returncode == 0, errors
    assert "632" in out
    assert "84" in out
    assert "magistral-mlx convert" in out


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    yield master, slave
    os.close(master)


def test_a_chat_on_a_terminal_answers_and_ends_with_ctrl_d(
    state: Path, terminal: tuple[int, int]
) -> None:
    remember_model("demo", state=state)
    master, slave = terminal
    process = subprocess.Popen(
        [sys.executable, "-m", "magistral_mlx", "chat", "--max-tokens", "8"],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    shown = read_until(master, "free")
    os.write(master, b"hello\r")
    shown += read_until(master, "tok/s")
    os.write(master, b"/quit\r")
    shown += read_until(master, "")
    assert process.wait(timeout=60) == 0
    assert "8 tokens" in shown
    assert "window" in shown


def read_until(master: int, text: str, *, seconds: float = 60) -> str:
    """What the terminal shows until the text; until its end for an empty text."""
    shown = ""
    deadline = time.monotonic() + seconds
    while not (text and text in shown):
        assert time.monotonic() < deadline, shown
        if select.select([master], [], [], 0.5)[0]:
            try:
                piece = os.read(master, 4096)
            except OSError:  # Linux: the program has closed the terminal
                return shown
            if not piece:
                return shown
            if b"\x1b[6n" in piece:
                os.write(master, b"\x1b[1;1R")  # a terminal reports its cursor
            shown += piece.decode(errors="replace")
    return shown
