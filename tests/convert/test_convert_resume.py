"""A conversion that was killed goes on where it was, and gives the bytes of one that was not."""

import json
import random
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from magistral_mlx.convert import ConversionOptions, Progress, convert
from magistral_mlx.convert.output.output_folder import Workplace
from magistral_mlx.errors import CheckpointError
from tests.convert.test_convert_atomic import ROOT, Stop, run, stop_in_the_middle
from tests.sample_checkpoints import edit_json, random_weights, write_hf

SHARD_BYTES = 100_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "source")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def stop(source: Path, output: Path) -> Workplace:
    with pytest.raises(Stop):
        convert(source, output, on_progress=stop_in_the_middle, shard_bytes=SHARD_BYTES)
    return Workplace(output)


def same_bytes(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def go_on(source: Path, output: Path) -> tuple[list[str], list[str]]:
    """Convert; the tensors that were read for it, and what was said about earlier runs."""
    read: list[str] = []
    notes: list[str] = []
    convert(
        source,
        output,
        on_progress=lambda progress: read.append(progress.tensor),
        on_note=notes.append,
        shard_bytes=SHARD_BYTES,
    )
    return read, notes[1:]


def test_the_next_run_reads_only_what_was_not_finished(source: Path, place: Path) -> None:
    whole = convert(source, place / "whole", shard_bytes=SHARD_BYTES)
    stop(source, place / "out")
    read, notes = go_on(source, place / "out")
    assert 0 < len(read) < len(random_weights())
    assert "model.embed_tokens.weight" not in read
    assert notes == [f"Resuming: {21 - len(read)} of 21 tensors are already converted."]
    assert same_bytes(place / "out", whole)
    assert not Workplace(place / "out").folder.exists()


def test_progress_begins_with_what_was_finished(source: Path, place: Path) -> None:
    stop(source, place / "out")
    seen: list[Progress] = []
    convert(source, place / "out", on_progress=seen.append, shard_bytes=SHARD_BYTES)
    assert seen[0].done > seen[0].total // 2
    assert seen[-1].done == seen[-1].total


def test_a_finished_tensor_that_the_disk_lost_is_converted_again(source: Path, place: Path) -> None:
    """As after a power cut: the journal reached the disk and the weights did not."""
    whole = convert(source, place / "whole", shard_bytes=SHARD_BYTES)
    workplace = stop(source, place / "out")
    first = sorted(workplace.model.glob("*.safetensors"))[0]
    first.write_bytes(first.read_bytes()[:4000])
    read, notes = go_on(source, place / "out")
    assert "model.embed_tokens.weight" in read
    assert "were incomplete on disk" in notes[1]
    assert same_bytes(place / "out", whole)


def test_a_torn_line_of_the_journal_is_a_tensor_converted_again(source: Path, place: Path) -> None:
    whole = convert(source, place / "whole", shard_bytes=SHARD_BYTES)
    workplace = stop(source, place / "out")
    text = workplace.journal.read_text()
    workplace.journal.write_text(text[:-30])
    read, _ = go_on(source, place / "out")
    assert read[0] in text
    assert same_bytes(place / "out", whole)


def test_a_journal_that_is_no_journal_begins_anew(source: Path, place: Path) -> None:
    workplace = stop(source, place / "out")
    workplace.journal.write_bytes(b"\x00" * 500)
    read, notes = go_on(source, place / "out")
    assert read[0] == "model.embed_tokens.weight"
    assert notes == []


def test_other_settings_are_refused_by_name_and_restart_begins_anew(
    source: Path, place: Path
) -> None:
    stop(source, place / "out")
    with pytest.raises(CheckpointError, match=r"settings \(recipe was q4, is q8\).*--restart"):
        convert(source, place / "out", ConversionOptions(bits=8), shard_bytes=SHARD_BYTES)
    eight = convert(source, place / "eight", ConversionOptions(bits=8), shard_bytes=SHARD_BYTES)
    convert(source, place / "out", ConversionOptions(bits=8, restart=True), shard_bytes=SHARD_BYTES)
    assert same_bytes(place / "out", eight)


def test_a_changed_source_is_refused(source: Path, place: Path) -> None:
    stop(source, place / "out")
    path = sorted(source.glob("*.safetensors"))[0]
    data = bytearray(path.read_bytes())
    middle = len(data) - 2000  # the middle of the last tensor, or near it
    for position in range(200_000, middle, 2):
        data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"source \(content was .*--restart"):
        convert(source, place / "out", shard_bytes=SHARD_BYTES)


def test_a_changed_config_of_the_source_is_refused(source: Path, place: Path) -> None:
    stop(source, place / "out")
    edit_json(source / "config.json", rope_theta=1e6)
    with pytest.raises(CheckpointError, match="source"):
        convert(source, place / "out", shard_bytes=SHARD_BYTES)


def test_a_kill_after_the_output_got_its_name_is_cleaned_up_by_the_same_command(
    source: Path, place: Path
) -> None:
    workplace = stop(source, place / "out")
    journal = workplace.journal.read_text()
    go_on(source, place / "out")
    before = {path.name: path.read_bytes() for path in (place / "out").iterdir()}
    workplace.folder.mkdir()
    workplace.journal.write_text(journal)
    read, _ = go_on(source, place / "out")
    assert read == []
    assert {path.name: path.read_bytes() for path in (place / "out").iterdir()} == before
    assert [path.name for path in place.iterdir()] == ["out"]


def test_a_full_disk_loses_nothing(source: Path, place: Path) -> None:
    whole = convert(source, place / "whole")
    program = """
        import resource, sys
        from magistral_mlx.convert.cli import main
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        main()
    """
    assert run(program, source, place / "out").returncode == 2
    notes: list[str] = []
    convert(source, place / "out", on_note=notes.append)
    assert notes[1].startswith("Resuming: ")
    assert same_bytes(place / "out", whole)


SLOWED = """
import sys, time
from magistral_mlx.convert import ConversionOptions, convert
print("ready", flush=True)
convert(
    sys.argv[1],
    sys.argv[2],
    # Without rtn, one tensor takes longer than most of these runs live.
    ConversionOptions(rtn=True),
    shard_bytes=100_000,
    on_progress=lambda _: time.sleep(0.03),
)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_at_random_moments_give_the_bytes_of_a_run_without(
    source: Path, place: Path
) -> None:
    whole = convert(source, place / "whole", ConversionOptions(rtn=True), shard_bytes=SHARD_BYTES)
    moments = random.Random(7)
    kills = 0
    for number in count():
        if kills >= 20:
            break
        output = place / f"out-{number}"
        while not output.exists():
            # Opening the source takes a third of the time, and each run goes on a bit further.
            kills += killed_after(moments.uniform(0.1, 1.2), source, output)
        convert_again_if_killed_at_the_end(source, output)
        assert same_bytes(output, whole)
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


def killed_after(seconds: float, source: Path, output: Path) -> bool:
    """Run a conversion and kill it after a while, unless it has ended by itself."""
    command = [sys.executable, "-c", SLOWED, str(source), str(output)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return True
        return False


def convert_again_if_killed_at_the_end(source: Path, output: Path) -> None:
    if Workplace(output).folder.exists():
        convert(source, output, ConversionOptions(rtn=True), shard_bytes=SHARD_BYTES)


def test_the_journal_holds_no_path_and_no_date(source: Path, place: Path) -> None:
    """What it says of the task must not depend on when or where: the same command goes on."""
    first, second = stop(source, place / "one"), stop(source, place / "two")
    assert first.journal.read_text() == second.journal.read_text()
    json.loads(first.journal.read_text().splitlines()[0])
