"""Which model is opened: named, remembered, or none yet."""

from pathlib import Path

import pytest

from magistral_mlx.errors import CheckpointError
from magistral_mlx.folders import state_folder
from magistral_mlx.opening import choose_model, remember_model


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "Magistral-Small-2506-4bit").mkdir(parents=True)
    return folder


def test_without_any_model_one_message_names_the_three_ways(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        choose_model(None, state=tmp_path)
    for way in ("magistral-mlx demo", "magistral-mlx convert", "--model FOLDER"):
        assert way in str(refused.value)


def test_the_model_used_last_is_used_again(tmp_path: Path, models: Path) -> None:
    state = tmp_path / "state"
    remember_model("demo", state=state)
    assert choose_model(None, state=state) == "demo"
    remember_model(str(models), state=state)
    assert choose_model(None, state=state) == str(models)


def test_a_model_that_is_gone_is_named(tmp_path: Path) -> None:
    remember_model(str(tmp_path / "gone"), state=tmp_path)
    with pytest.raises(CheckpointError, match=r"gone.*no longer exists"):
        choose_model(None, state=tmp_path)


def test_a_folder_is_taken_as_it_is(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_model("models", state=tmp_path) == str(models)


@pytest.mark.parametrize(
    "name",
    ["mistralai/Magistral-Small-2506", "Magistral-Small-2506", "Magistral-Small-2506-4bit"],
)
def test_a_hub_id_stands_for_what_was_converted_from_it(
    name: str, tmp_path: Path, models: Path
) -> None:
    found = choose_model(name, state=tmp_path, models=models)
    assert found == str(models / "Magistral-Small-2506-4bit")


def test_a_model_converted_twice_must_be_named_exactly(tmp_path: Path, models: Path) -> None:
    (models / "Magistral-Small-2506-8bit").mkdir()
    with pytest.raises(CheckpointError, match=r"choose one of .*-4bit, .*-8bit"):
        choose_model("mistralai/Magistral-Small-2506", state=tmp_path, models=models)
    found = choose_model("Magistral-Small-2506-8bit", state=tmp_path, models=models)
    assert found.endswith("-8bit")


def test_folders_that_only_begin_like_the_name_are_others(tmp_path: Path, models: Path) -> None:
    (models / "Magistral-Small-2506-notes").mkdir()
    found = choose_model("Magistral-Small-2506", state=tmp_path, models=models)
    assert found.endswith("-4bit")


def test_what_was_never_converted_is_refused_with_the_command(tmp_path: Path, models: Path) -> None:
    for name in ("mistralai/Magistral-Medium", "nowhere"):
        with pytest.raises(CheckpointError, match="magistral-mlx convert"):
            choose_model(name, state=tmp_path, models=models)


def test_the_state_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGISTRAL_MLX_STATE", str(tmp_path))
    assert state_folder() == tmp_path
