"""Samples on disk: kept at once, read again, never mixed with others."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from magistral_mlx.errors import UserError
from magistral_mlx.evaluation.question import Question
from magistral_mlx.evaluation.run_folder import SAMPLES_FILE, SETTINGS_FILE, RunFolder
from magistral_mlx.evaluation.sample import sample_line, sample_seed
from tests.evaluation.eval_samples import SETTINGS, make_sample

FIRST, SECOND = make_sample("1", 0, right=True), make_sample("2", 0, right=False, answer="né\n字")


def test_samples_are_there_again_and_on_the_disk_before_append_returns(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", SETTINGS) as folder:
        folder.append(FIRST)
        assert (tmp_path / "run" / SAMPLES_FILE).read_text() == sample_line(FIRST)
        folder.append(SECOND)
    with RunFolder(tmp_path / "run", SETTINGS) as folder:
        assert folder.samples == [FIRST, SECOND]


def test_wherever_writing_was_cut_off_the_whole_lines_stay(tmp_path: Path) -> None:
    with RunFolder(tmp_path, SETTINGS):
        pass
    file = tmp_path / SAMPLES_FILE
    whole = sample_line(FIRST).encode()
    torn = sample_line(SECOND).encode()
    for length in range(len(torn)):
        file.write_bytes(whole + torn[:length])
        with RunFolder(tmp_path, SETTINGS) as folder:
            assert folder.samples == [FIRST]
            folder.append(SECOND)
        assert file.read_bytes() == whole + torn


@pytest.mark.parametrize("line", ["{}\n", "no json\n", "[1]\n"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    with RunFolder(tmp_path, SETTINGS) as folder:
        folder.append(FIRST)
    with (tmp_path / SAMPLES_FILE).open("a") as file:
        file.write(line)
    with pytest.raises(UserError, match="line 2 is damaged"):
        RunFolder(tmp_path, SETTINGS)


def test_other_settings_are_refused_with_what_differs(tmp_path: Path) -> None:
    with RunFolder(tmp_path, SETTINGS) as folder:
        folder.append(FIRST)
    with pytest.raises(UserError, match=r"kv_bits 16 then, 8 now\): use the same settings"):
        RunFolder(tmp_path, replace(SETTINGS, kv_bits=8))
    with RunFolder(tmp_path, SETTINGS) as folder:
        assert folder.samples == [FIRST]


def test_damaged_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_text('{"kv_bi')
    with pytest.raises(UserError, match="is damaged"):
        RunFolder(tmp_path, SETTINGS)


def test_a_folder_has_one_writer_at_a_time(tmp_path: Path) -> None:
    with RunFolder(tmp_path, SETTINGS), pytest.raises(UserError, match="in use"):
        RunFolder(tmp_path, SETTINGS)
    with RunFolder(tmp_path, SETTINGS):
        pass


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "run", SETTINGS)


def test_settings_are_readable_json(tmp_path: Path) -> None:
    with RunFolder(tmp_path, SETTINGS):
        pass
    assert json.loads((tmp_path / SETTINGS_FILE).read_text())["temperature"] == 0.7


def test_every_sample_has_a_seed_of_its_own_that_stays() -> None:
    questions = [Question(str(n), f"What is {n}?", "1", "mathematics") for n in range(50)]
    seeds = [sample_seed(q, index, seed=0) for q in questions for index in range(8)]
    assert len(set(seeds)) == len(seeds)
    assert seeds[0] == sample_seed(replace(questions[0], id="other"), 0, seed=0)
    assert seeds[0] != sample_seed(questions[0], 0, seed=1)
