"""--kv-disk, cache list and cache clear, with the model that comes with the package."""

import json
from pathlib import Path

import mlx.core as mx
import pytest
from typer.testing import CliRunner, Result

import magistral_mlx
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.errors import RequestError
from magistral_mlx.kv.disk.folder import kv_folder
from magistral_mlx.kv.disk.store import KVStore
from magistral_mlx.machine import parse_size
from magistral_mlx.terminal.cli import app
from tests.kv.kv_samples import sample_kv

QUESTION = "What is 21 + 34?"


@pytest.fixture
def model(demo_folder: Path) -> Path:
    return demo_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The KV folder of a user who has kept nothing yet."""
    monkeypatch.setenv("MAGISTRAL_MLX_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MAGISTRAL_MLX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kv"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def ask(model: Path, *arguments: str) -> dict[str, object]:
    options = ["--model", str(model), "--temperature", "0", "--max-tokens", "20", "--json"]
    result = run("ask", QUESTION, *options, *arguments)
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


def keep(folder: Path, model: Path, *, name: str, length: int) -> None:
    """A file of another model, of so many tokens."""
    checkpoint = open_checkpoint(model)
    named = type(checkpoint)(
        checkpoint.folder.parent / name,
        checkpoint.config,
        checkpoint.weight_files,
        checkpoint.tokenizer_file,
        f"{length:064x}",
    )
    tokens = list(range(length))
    store = KVStore(folder, limit=10**9, checkpoint=named, dtype=mx.float32)
    cache = sample_kv(checkpoint.config, tokens)
    store.write(tokens, cache, used=1_700_000_000.0 - length, stop=lambda: False)


def test_a_second_ask_reuses_the_first_ones_prompt(folder: Path, model: Path) -> None:
    plain = ask(model)
    assert not folder.exists()
    first = ask(model, "--kv-disk", "1GB")
    again = ask(model, "--kv-disk", "1GB")
    for one in (first, again):
        assert (one["reasoning"], one["answer"]) == (plain["reasoning"], plain["answer"])
    assert usage(first)["cached_tokens"] == usage(plain)["cached_tokens"] == 0
    assert usage(again)["cached_tokens"] == usage(again)["prompt_tokens"] - 1


def usage(reply: dict[str, object]) -> dict[str, int]:
    found = reply["usage"]
    assert isinstance(found, dict)
    return found


def test_python_and_the_command_line_share_the_folder(folder: Path, model: Path) -> None:
    ask(model, "--kv-disk", "1GB")
    with magistral_mlx.open_model(model, kv_disk=10**9) as opened:
        options = magistral_mlx.GenerationOptions(max_tokens=2)
        assert opened.generate(QUESTION, options).usage.cached_tokens > 100
    with pytest.raises(RequestError, match="kv_disk is 0"):
        magistral_mlx.open_model(model, kv_disk=0)


def test_list_shows_each_file_with_the_one_used_last_first(folder: Path, model: Path) -> None:
    keep(folder, model, name="older-4bit", length=300)
    keep(folder, model, name="newer-8bit", length=150)
    (folder / "x.safetensors").write_bytes(b"nothing")
    found = json.loads(run("cache", "list", "--json").stdout)
    assert found["folder"] == str(folder)
    assert [each["model"] for each in found["files"]] == [None, "newer-8bit", "older-4bit"]
    assert [each["tokens"] for each in found["files"]] == [None, 150, 300]
    for each in found["files"]:
        assert each["bytes"] == (folder / each["file"]).stat().st_size
    assert found["files"][1]["kv"] == "float32"
    assert found["files"][1]["last_used"].startswith("2023-11-1")
    table = run("cache", "list").stdout
    for shown in ("Model", "Tokens", "older-4bit", "300", "float32", "2023-11-1", "unreadable"):
        assert shown in table


def test_an_empty_cache_is_said_to_be_empty(folder: Path) -> None:
    assert "There are no KV files" in run("cache", "list").stdout
    assert json.loads(run("cache", "list", "--json").stdout)["files"] == []
    assert run("cache", "clear").stdout == "Removed 0 files, 0.0 MB.\n"


def test_clear_removes_one_models_files_or_all_and_says_what_it_freed(
    folder: Path, model: Path
) -> None:
    keep(folder, model, name="one-4bit", length=300)
    keep(folder, model, name="two-4bit", length=150)
    (folder / "x.safetensors").write_bytes(b"nothing")
    (folder / ".y.unfinished").write_bytes(b"")
    (folder / "notes.txt").write_text("mine")
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    refused = run("cache", "clear", "--model", "three")
    assert refused.exit_code == 2
    assert "one-4bit, two-4bit, unreadable" in refused.stderr
    assert run("cache", "clear", "--model", "someone/one").stdout.startswith("Removed 2 files, 1.")
    names = [each["model"] for each in json.loads(run("cache", "list", "--json").stdout)["files"]]
    assert names == [None, "two-4bit"]
    left = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert run("cache", "clear").stdout == f"Removed 2 files, {left / 1e6:.1f} MB.\n"
    assert left < size
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20e9), ("20", 20e9), ("500 MB", 5e8), ("1.5t", 1.5e12), ("0.1 gb", 1e8)],
)
def test_sizes_are_read_in_powers_of_ten(text: str, size: float) -> None:
    assert parse_size(text, kilo=1000) == size


@pytest.mark.parametrize("text", ["", "lots", "0", "-1GB", "20 GiB of it", "GB"])
def test_what_is_no_size_is_refused(text: str, folder: Path, model: Path) -> None:
    result = run("ask", "hi", "--model", str(model), "--kv-disk", text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "write it as 20GB" in result.stderr
    assert not folder.exists()


def test_a_folder_that_cannot_be_used_is_one_line_and_exit_2(folder: Path, model: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("a file")
    result = run("ask", "hi", "--model", str(model), "--kv-disk", "1GB")
    assert result.exit_code == 2
    assert "MAGISTRAL_MLX_CACHE" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_folder_is_the_platforms_cache_folder_unless_it_is_moved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MAGISTRAL_MLX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kv_folder().parts[-2:] == ("magistral-mlx", "kv")
    monkeypatch.setenv("MAGISTRAL_MLX_CACHE", str(tmp_path / "there"))
    assert kv_folder() == tmp_path / "there" / "kv"
