"""MLX folders as sources, and the card of what was converted."""

import re
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.convert.output.manifest import open_stored
from magistral_mlx.convert.sources.open_source import open_source
from magistral_mlx.convert.sources.source import as_array
from magistral_mlx.convert.verification import verify
from magistral_mlx.errors import CheckpointError
from tests.convert.test_convert import read
from tests.sample_checkpoints import write_hf


@pytest.fixture
def hf(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "hf")


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_weights_are_read_back_as_mlx_dequantises_them(hf: Path, tmp_path: Path, bits: int) -> None:
    mlx_lm.convert(str(hf), str(tmp_path / "theirs"), quantize=True, q_bits=bits)
    stored = read(tmp_path / "theirs")
    source = open_source(tmp_path / "theirs", fetched=tmp_path)
    tensor = next(t for t in source.tensors if t.name == "model.layers.1.mlp.down_proj.weight")
    expected = mx.dequantize(
        stored[tensor.name],
        stored["model.layers.1.mlp.down_proj.scales"].astype(mx.float32),
        stored["model.layers.1.mlp.down_proj.biases"].astype(mx.float32),
        group_size=64,
        bits=bits,
    )
    found = as_array(tensor.read_rows(0, tensor.shape[0]), tensor.dtype)
    assert np.allclose(np.array(found), np.array(expected), rtol=1e-6, atol=1e-7)
    part = as_array(tensor.read_rows(30, 100), tensor.dtype)
    assert mx.array_equal(part, found[30:100]).item()


def test_a_folder_of_8_bits_becomes_one_of_4_with_a_warning(hf: Path, tmp_path: Path) -> None:
    eight = convert(hf, tmp_path / "eight", ConversionOptions(bits=8, modules=["lm_head=bf16"]))
    notes: list[str] = []
    four = convert(eight, tmp_path / "four", ConversionOptions(bits=4), on_note=notes.append)
    config = open_checkpoint(four).config
    assert (config.quantization, config.module_quantization) == (Quantization(4, 64), ())
    assert notes[0].startswith("The source is already quantised to 8 bits")
    source = open_source(hf, fetched=tmp_path)
    again = verify(four, source=source)
    direct = verify(convert(hf, tmp_path / "direct", ConversionOptions(bits=4)), source=source)
    assert again.failed == []
    for name, error in direct.errors.items():
        assert error.mean <= again.errors[name].mean < 1.05 * error.mean + 1e-9


def test_formats_that_are_not_read_back_are_refused(hf: Path, tmp_path: Path) -> None:
    folder = convert(hf, tmp_path / "floating", ConversionOptions(recipe="mxfp4"))
    with pytest.raises(CheckpointError, match="is stored as mxfp4"):
        convert(folder, tmp_path / "out")


def test_the_card_says_what_was_done_and_how_exact_it_is(hf: Path, tmp_path: Path) -> None:
    folder = convert(hf, tmp_path / "out", ConversionOptions(recipe="mixed"))
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: mlx\n")
    assert "Converted for MLX from hf (hugging face layout) with magistral-mlx " in card
    assert "least squared error" in card
    errors = [error.mean for error in open_stored(folder).errors.values()]
    found = re.search(r"([\d.]+)% on average, ([\d.]+)% at most", card)
    assert found is not None
    assert float(found[1]) == pytest.approx(100 * sum(errors) / len(errors), abs=0.01)
    assert float(found[2]) == pytest.approx(100 * max(errors), abs=0.01)
    assert str(tmp_path) not in card
    plain = (convert(hf, tmp_path / "plain", ConversionOptions(rtn=True)) / "README.md").read_text()
    assert "rounded to the nearest step" in plain
