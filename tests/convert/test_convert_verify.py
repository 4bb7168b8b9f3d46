"""`verify` names what is wrong with a converted folder, and `inspect` shows what it holds."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from magistral_mlx.convert import cli, convert
from magistral_mlx.convert.sources.open_source import open_source
from magistral_mlx.convert.verification import Verification, verify
from tests.sample_checkpoints import random_weights, write_hf, write_mistral


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "source")


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    return convert(source, tmp_path / "out")


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def one_failure(found: Verification) -> str:
    assert len(found.failed) == 1, found.failed
    return found.failed[0]


def test_a_whole_folder_passes_every_check(folder: Path) -> None:
    found = verify(folder)
    assert found.failed == []
    assert found.skipped == []
    assert [line.split()[0] for line in found.passed] == ["53", "62", "The", "tokenizer.json", "8"]


def test_one_flipped_bit_of_a_weight_is_found_and_its_tensor_named(folder: Path) -> None:
    flip(folder / "model.safetensors", 50_000)
    message = one_failure(verify(folder))
    assert "model.embed_tokens.weight" in message
    assert "model.safetensors" in message


def test_a_changed_small_file_is_named(folder: Path) -> None:
    (folder / "SYSTEM_PROMPT.txt").write_text("Do not think.")
    assert "SYSTEM_PROMPT.txt" in one_failure(verify(folder))


def test_errors_against_the_source_are_those_of_dequantised_weights(
    source: Path, folder: Path
) -> None:
    found = verify(folder, source=open_source(source, fetched=Path()))
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    name = "model.layers.1.mlp.down_proj"
    kept = mx.dequantize(
        weights[f"{name}.weight"],
        weights[f"{name}.scales"].astype(mx.float32),
        weights[f"{name}.biases"].astype(mx.float32),
        group_size=64,
        bits=4,
    )
    exact = np.array(random_weights()[f"{name}.weight"].astype(mx.float32))
    difference = np.array(kept) - exact
    error = found.errors[f"{name}.weight"]
    assert error.mean == pytest.approx(np.linalg.norm(difference) / np.linalg.norm(exact), rel=1e-4)
    largest = np.abs(difference).max() / np.sqrt(np.mean(exact**2))
    assert error.largest == pytest.approx(largest, rel=1e-4)
    assert found.errors["model.norm.weight"].mean == 0.0
    assert found.failed == []


def test_the_error_that_a_conversion_records_is_near_that_of_all_rows(
    source: Path, folder: Path
) -> None:
    from magistral_mlx.convert.output.manifest import open_stored

    recorded = open_stored(folder).errors
    found = verify(folder, source=open_source(source, fetched=Path())).errors
    assert recorded.keys() == {name for name, error in found.items() if error.mean > 0}
    for name, error in recorded.items():
        assert error.mean == pytest.approx(found[name].mean, rel=0.1)


def test_weights_of_another_model_are_not_taken_for_the_source(
    folder: Path, tmp_path: Path
) -> None:
    other = write_mistral(tmp_path / "other", random_weights(seed=1))
    assert "made from other weights" in one_failure(
        verify(folder, source=open_source(other, fetched=Path()))
    )


def program(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["convert", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().out


def test_the_commands_print_and_exit_with_what_they_found(
    source: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, printed = program(["inspect", str(folder)], monkeypatch, capsys)
    assert code == 0
    assert "affine 4 bits / 64" in printed
    assert "4.50" in printed
    code, printed = program(["verify", str(folder), "--source", str(source)], monkeypatch, capsys)
    assert code == 0
    assert "ok: All weights are those of source at 4 bits." in printed
    flip(folder / "model.safetensors", 50_000)
    code, printed = program(["verify", str(folder)], monkeypatch, capsys)
    assert code == 1
    assert "WRONG: Tensor model.embed_tokens.weight" in printed
