"""What the README says is what the program does."""

import re
import shlex
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from magistral_mlx.machine import GIB, mac_limit
from magistral_mlx.memory.plan import MemoryPlanError, magistral_small, plan
from magistral_mlx.terminal.cli import app
from magistral_mlx.terminal.plan import mac_row

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_memory_table_is_what_the_plan_computes() -> None:
    rows = re.findall(r"^\| (\d+) GB \| (.*) \|$", README, re.MULTILINE)
    assert len(rows) >= 6
    for size, shown in rows:
        assert shown == memory_row(int(size))


def memory_row(gigabytes: int) -> str:
    memory = gigabytes * GIB
    try:
        made = plan(magistral_small(), mac_limit(memory))
    except MemoryPlanError:
        made = None
    return " | ".join(mac_row(memory, made)).replace("|  |", "| |").replace("|  |", "| |").strip()


def test_every_command_line_shown_is_one_that_the_program_takes() -> None:
    names = "ask|chat|app|serve|plan|convert|demo|eval|bench"
    lines = re.findall(rf"magistral-mlx ((?:{names})\b[^|`>\n]*)", README)
    assert len(lines) >= 12
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for line in lines:
        name, *arguments = shlex.split(line.replace(" and so on", ""))
        group.commands[name].make_context(name, arguments)


def test_every_file_of_the_tree_exists() -> None:
    tree = README.split("## What is where")[1].split("## Limits")[0]
    names = re.findall(r"[\w/]+(?:\.py|/|\.md)(?=[\s:,;])", tree)
    assert len(names) >= 15
    for name in names:
        assert (ROOT / name).exists() or (ROOT / "magistral_mlx" / name).exists(), name


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAGISTRAL_MLX_MODELS", str(tmp_path))
    block = re.search(r"## Python\n\n((?:    .*\n|\n)+)", README)
    assert block
    code = re.sub(r"^    ", "", block[1], flags=re.MULTILINE)
    exec(compile(code, "README.md", "exec"), {})
    assert "stop Usage(" in capsys.readouterr().out
