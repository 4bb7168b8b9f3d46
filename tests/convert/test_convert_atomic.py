"""A conversion that is interrupted, killed or out of disk shows nothing under the final name."""

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import ConversionOptions, Progress, conversion_bar, convert
from magistral_mlx.convert.output.output_folder import Workplace, locked
from magistral_mlx.errors import CheckpointError
from tests.sample_checkpoints import random_weights, write_hf

ROOT = Path(__file__).resolve().parents[2]


class Stop(Exception):
    """Stands for whatever ends a conversion in the middle."""


def stop_in_the_middle(progress: Progress) -> None:
    if progress.done > progress.total // 2:
        raise Stop


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python text in a process of its own, which may be killed."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "source")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder that the output goes to, and nothing else."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def test_an_error_in_the_middle_leaves_no_output(source: Path, place: Path) -> None:
    with pytest.raises(Stop):
        convert(source, place / "out", on_progress=stop_in_the_middle)
    assert not (place / "out").exists()
    assert convert(source, place / "out").is_dir()
    assert [path.name for path in place.iterdir()] == ["out"]


def test_an_error_before_a_tensor_is_finished_leaves_nothing(tmp_path: Path, place: Path) -> None:
    weights = random_weights()
    weights["model.embed_tokens.weight"][7, 7] = float("inf")
    source = write_hf(tmp_path / "infinite", weights)
    with pytest.raises(CheckpointError, match="not finite"):
        convert(source, place / "out")
    assert list(place.iterdir()) == []


def test_while_it_runs_nothing_has_the_final_name(source: Path, place: Path) -> None:
    seen = []
    convert(source, place / "out", on_progress=lambda _: seen.append((place / "out").exists()))
    assert set(seen) == {False}
    assert [path.name for path in place.iterdir()] == ["out"]


KILLED = """
    import os, signal, sys
    from magistral_mlx.convert import ConversionOptions, convert
    def kill(progress):
        if progress.done > progress.total // 2:
            os.kill(os.getpid(), signal.SIGKILL)
    convert(sys.argv[1], sys.argv[2], ConversionOptions(force=True), on_progress=kill)
"""


def test_a_killed_run_leaves_no_output_and_the_next_one_works(source: Path, place: Path) -> None:
    assert run(KILLED, source, place / "out").returncode == -signal.SIGKILL
    assert not (place / "out").exists()
    assert any(place.iterdir()), "the kill came too early to prove anything"
    open_checkpoint(convert(source, place / "out"))
    assert [path.name for path in place.iterdir()] == ["out"]


def test_a_killed_replacement_leaves_the_older_output(
    source: Path, place: Path, tmp_path: Path
) -> None:
    convert(source, place / "out", ConversionOptions(bits=8))
    assert run(KILLED, source, place / "out").returncode == -signal.SIGKILL
    assert open_checkpoint(place / "out").config.quantization.bits == 8  # type: ignore[union-attr]


def test_force_replaces_the_older_output_whole(source: Path, place: Path) -> None:
    convert(source, place / "out", ConversionOptions(bits=8), shard_bytes=40_000)
    convert(source, place / "out", ConversionOptions(bits=4, force=True))
    assert open_checkpoint(place / "out").config.quantization.bits == 4  # type: ignore[union-attr]
    assert len(list((place / "out").glob("*.safetensors"))) == 1
    assert [path.name for path in place.iterdir()] == ["out"]


def test_a_kill_between_the_two_renames_loses_nothing(source: Path, place: Path) -> None:
    convert(source, place / "out", ConversionOptions(bits=8))
    (place / "out").rename(place / ".out.replaced")
    with pytest.raises(CheckpointError, match="already exists"):
        convert(source, place / "out")
    assert open_checkpoint(place / "out").config.quantization.bits == 8  # type: ignore[union-attr]
    assert [path.name for path in place.iterdir()] == ["out"]


def test_ctrl_c_says_so_and_leaves_no_output(source: Path, place: Path) -> None:
    program = """
        import os, signal, sys
        from magistral_mlx.convert import cli
        convert = cli.convert
        def interrupted(*arguments, on_progress, **options):
            def interrupt(progress):
                on_progress(progress)
                if progress.done > progress.total // 2:
                    os.kill(os.getpid(), signal.SIGINT)
            return convert(*arguments, on_progress=interrupt, **options)
        cli.convert = interrupted
        cli.main()
    """
    ended = run(program, source, place / "out")
    assert ended.returncode == 130
    assert "Interrupted" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (place / "out").exists()


def test_a_full_disk_is_one_sentence_and_leaves_no_output(source: Path, place: Path) -> None:
    """A limit on file size makes writing fail as a full disk does, in the middle."""
    program = """
        import resource, sys
        from magistral_mlx.convert.cli import main
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        main()
    """
    ended = run(program, source, place / "out")
    assert ended.returncode == 2, ended.stderr
    assert f"could not be written ({os.strerror(errno.EFBIG)})" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (place / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(source: Path, place: Path) -> None:
    (place / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        convert(source, place / "file" / "out")


def test_a_source_cut_while_it_is_read_leaves_no_output(source: Path, place: Path) -> None:
    def cut(progress: Progress) -> None:
        for path in source.glob("*.safetensors"):
            os.truncate(path, 2000)

    with pytest.raises(CheckpointError, match="became shorter"):
        convert(source, place / "out", on_progress=cut)
    assert not (place / "out").exists()


def test_a_tokenizer_exchanged_while_it_runs_is_noticed(source: Path, place: Path) -> None:
    """The copy is verified against what was checked before the work."""

    def exchange(_: Progress) -> None:
        (source / "tekken.json").write_text("{}")

    with pytest.raises(CheckpointError, match=r"tekken\.json"):
        convert(source, place / "out", on_progress=exchange)
    assert not (place / "out").exists()


def test_two_processes_do_not_write_the_same_output(source: Path, place: Path) -> None:
    workplace = Workplace(place / "out")
    with locked(workplace):
        (workplace.folder / "mine").write_text("kept")
        with pytest.raises(CheckpointError, match="being written by another process"):
            convert(source, place / "out")
        assert (workplace.folder / "mine").read_text() == "kept"


def test_a_terminal_sees_bytes_rate_and_time_left(source: Path, place: Path) -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with conversion_bar(console) as show:
        convert(source, place / "out", on_progress=show)
    shown = screen.getvalue()
    assert re.search(r"lm_head", shown)
    assert re.search(r"\d\.\d/\d\.\d MB", shown)
    assert re.search(r"[kMG]?B/s", shown)
    assert re.search(r"0:00:00", shown)


def test_the_module_runs_as_a_program(source: Path, place: Path) -> None:
    command = [sys.executable, "-m", "magistral_mlx.convert", str(source), str(place / "out")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == f"{place / 'out'}\n"
    assert open_checkpoint(place / "out").config.vocab_size == len(
        random_weights()["lm_head.weight"]
    )
