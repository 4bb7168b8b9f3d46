"""Converting from the Hub: the same output as from a folder, and nothing else left on disk."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.convert.cli import check_repository_name, upload
from magistral_mlx.convert.output.output_folder import Workplace
from magistral_mlx.convert.sources import read_ahead, remote_file
from magistral_mlx.errors import CheckpointError
from tests.convert.test_convert_atomic import ROOT, Stop, stop_in_the_middle
from tests.convert.test_convert_refusals import swap
from tests.hub_server import COMMIT, REPOSITORY, TOKEN, HubServer
from tests.sample_checkpoints import write_hf, write_mistral
from tests.sample_llama import write_llama


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hf(tmp_path_factory.mktemp("hub") / "source")


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the same conversion from the folder."""
    return convert(source, tmp_path_factory.mktemp("expected") / "out")


@pytest.fixture
def hub(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The server, with an empty cache, small blocks and short waits."""
    with HubServer(source) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(read_ahead, "BLOCK_BYTES", 40_000)
        monkeypatch.setattr(remote_file, "TIMEOUT", 0.5)
        monkeypatch.setattr(remote_file, "FIRST_WAIT", 0.001)
        yield server


def assert_same_model(folder: Path, expected: Path) -> None:
    """Every file but the two that name the source and the error, which is measured by blocks."""
    names = sorted(path.name for path in expected.iterdir())
    assert names == sorted(path.name for path in folder.iterdir())
    for name in names:
        if name not in ("conversion.json", "README.md"):
            assert (folder / name).read_bytes() == (expected / name).read_bytes(), name


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_streamed_weights_give_the_same_model_and_nothing_else_on_disk(
    hub: HubServer, expected: Path, tmp_path: Path
) -> None:
    folder = convert(REPOSITORY, tmp_path / "out")
    assert_same_model(folder, expected)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_weight_files_under_each_others_names_are_refused(
    hub: HubServer, source: Path, tmp_path: Path
) -> None:
    hub.folder = Path(shutil.copytree(source, tmp_path / "swapped"))
    swap(hub.folder)
    assert "its index expects" in refused(tmp_path)


def test_a_plain_llama_comes_with_its_tokenizer_and_template(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.folder = write_llama(tmp_path / "llama")
    expected = convert(hub.folder, tmp_path / "expected", ConversionOptions(group_size=32))
    folder = convert(REPOSITORY, tmp_path / "out", ConversionOptions(group_size=32))
    assert_same_model(folder, expected)
    assert {"tokenizer.json", "tokenizer_config.json"} <= written(folder)


def test_no_weight_file_lies_on_disk_while_it_is_streamed(
    hub: HubServer, source: Path, tmp_path: Path
) -> None:
    """But for the output, there are the small files and the journal."""
    seen: set[str] = set()
    convert(REPOSITORY, tmp_path / "out", on_progress=lambda _: seen.update(written(tmp_path)))
    assert {name for name in seen if name.endswith(".safetensors")} == {
        ".out.partial/model/model.safetensors"
    }


def test_every_byte_is_read_about_once(hub: HubServer, source: Path, tmp_path: Path) -> None:
    convert(REPOSITORY, tmp_path / "out")
    size = sum(path.stat().st_size for path in source.iterdir())
    assert hub.sent < 1.02 * size


@pytest.mark.parametrize("fault", ["cut", "stall", "503", "429", "range", "page", "long"])
def test_what_goes_wrong_now_and_then_changes_nothing(
    hub: HubServer, expected: Path, tmp_path: Path, fault: str
) -> None:
    every = 40 if fault == "stall" else 3
    hub.fault = lambda number: fault if number % every == 0 else None
    assert_same_model(convert(REPOSITORY, tmp_path / "out"), expected)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [("503", "HTTP 503"), ("page", "instead of a byte range"), ("range", "range 'bytes")],
)
def test_what_goes_wrong_always_is_one_sentence(
    hub: HubServer, tmp_path: Path, fault: str, problem: str
) -> None:
    hub.fault = lambda number: fault if number > 6 else None
    with pytest.raises(CheckpointError, match=problem) as caught:
        convert(REPOSITORY, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_run_that_lost_the_network_goes_on_when_it_is_back(
    hub: HubServer, expected: Path, tmp_path: Path
) -> None:
    hub.fault = lambda number: "503" if number > 20 else None
    with pytest.raises(CheckpointError, match="run this again"):
        convert(REPOSITORY, tmp_path / "out")
    assert Workplace(tmp_path / "out").journal.exists()
    hub.fault = lambda _: None
    notes: list[str] = []
    assert_same_model(convert(REPOSITORY, tmp_path / "out", on_note=notes.append), expected)
    assert notes[1].startswith("Resuming: ")
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_the_mistral_layout_is_streamed_too(hub: HubServer, expected: Path, tmp_path: Path) -> None:
    hub.folder = write_mistral(tmp_path / "mistral")
    folder = convert(REPOSITORY, tmp_path / "out")
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() == (expected / weights).read_bytes()


def test_the_token_goes_to_the_hub_and_not_to_its_storage(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    convert(REPOSITORY, tmp_path / "out")
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert hub.cdn_tokens == {None}


def refused(tmp_path: Path, source: str = REPOSITORY, revision: str | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "out", ConversionOptions(revision=revision))
    message = str(caught.value)
    assert "\n" not in message
    assert not (tmp_path / "out").exists()
    assert not Workplace(tmp_path / "out").folder.exists()
    return message


def test_a_gated_repository_is_one_sentence(hub: HubServer, tmp_path: Path) -> None:
    hub.gated = True
    assert "is gated: accept its terms" in refused(tmp_path)


def test_a_repository_that_is_missing_is_one_sentence(hub: HubServer, tmp_path: Path) -> None:
    assert "someone/else does not exist on the Hub" in refused(tmp_path, "someone/else")


def test_a_revision_that_is_missing_is_one_sentence(hub: HubServer, tmp_path: Path) -> None:
    assert "no revision 'v9'" in refused(tmp_path, revision="v9")


def test_no_network_is_one_sentence(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached: check the network" in refused(tmp_path)


def test_kept_source_files_are_used_again_and_without_network(
    hub: HubServer, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same_model(
        convert(REPOSITORY, tmp_path / "one", ConversionOptions(keep_source=True)), expected
    )
    cached = written(tmp_path / "cache")
    assert any(name.endswith(f"{COMMIT}/model-00001-of-00002.safetensors") for name in cached)
    downloaded = hub.weight_requests
    second = convert(REPOSITORY, tmp_path / "two")
    assert hub.weight_requests == downloaded
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    third = convert(REPOSITORY, tmp_path / "three")
    for name in ("model.safetensors", "config.json", "tekken.json"):
        assert (second / name).read_bytes() == (third / name).read_bytes()


def test_streaming_goes_on_from_the_cache_when_the_files_are_there(
    hub: HubServer, expected: Path, tmp_path: Path
) -> None:
    """A commit is a commit, wherever its files are read from."""
    with pytest.raises(Stop):
        convert(REPOSITORY, tmp_path / "out", on_progress=stop_in_the_middle)
    notes: list[str] = []
    folder = convert(
        REPOSITORY, tmp_path / "out", ConversionOptions(keep_source=True), on_note=notes.append
    )
    assert notes[1].startswith("Resuming: ")
    assert_same_model(folder, expected)


def test_the_record_names_commit_and_licence(hub: HubServer, tmp_path: Path) -> None:
    text = (convert(REPOSITORY, tmp_path / "out") / "conversion.json").read_text()
    assert COMMIT in text
    assert '"licence": "apache-2.0"' in text
    assert str(tmp_path) not in text


def test_the_program_takes_magistral_when_no_source_is_named(
    hub: HubServer, expected: Path, tmp_path: Path
) -> None:
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "MAGISTRAL_MLX_MODELS": str(tmp_path / "models"),
    }
    command = [sys.executable, "-m", "magistral_mlx.convert"]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "models" / "Magistral-Small-2506-4bit"
    assert ended.stdout == f"{folder}\n"
    assert_same_model(folder, expected)
    assert not any("blobs" in name for name in written(tmp_path))


def test_a_converted_folder_is_uploaded_whole(
    hub: HubServer, expected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert upload(expected, "me/mine") == f"{hub.url}/me/mine"
    files = {path.name: path.read_bytes() for path in expected.iterdir()}
    assert hub.uploaded == files


def test_an_upload_without_a_token_is_one_sentence(hub: HubServer, expected: Path) -> None:
    with pytest.raises(CheckpointError, match="HF_TOKEN") as caught:
        upload(expected, "me/mine")
    assert "\n" not in str(caught.value)


def test_an_upload_to_no_name_is_refused_before_the_work() -> None:
    with pytest.raises(CheckpointError, match="give OWNER/NAME"):
        check_repository_name("mine")
