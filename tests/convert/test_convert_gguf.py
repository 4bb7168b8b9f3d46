"""GGUF files: the same model as from the other sources, and a tokenizer with the same ids."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.convert.output.output_folder import Workplace
from magistral_mlx.convert.sources.gguf_file import GGUFTensor
from magistral_mlx.convert.sources.open_source import open_source
from magistral_mlx.convert.sources.source import as_array
from magistral_mlx.convert.verification import verify
from magistral_mlx.errors import CheckpointError
from tests.gguf_files import write_gguf
from tests.sample_checkpoints import random_weights, small_tekken, write_hf, write_mistral

WEIGHTS = "model.safetensors"


@pytest.mark.parametrize("kind", ["F32", "BF16"])
def test_all_sources_give_the_same_weights_and_config(tmp_path: Path, kind: str) -> None:
    """One model, exported to all of them; the Hub's is in test_convert_hub.py."""
    from_hf = convert(write_hf(tmp_path / "hf"), tmp_path / "a")
    from_mistral = convert(write_mistral(tmp_path / "mistral"), tmp_path / "b")
    from_gguf = convert(write_gguf(tmp_path / "model.gguf", kind=kind), tmp_path / "c")
    for folder in (from_mistral, from_gguf):
        assert (folder / WEIGHTS).read_bytes() == (from_hf / WEIGHTS).read_bytes()
        assert open_checkpoint(folder).config == open_checkpoint(from_hf).config
    assert verify(from_gguf).failed == []


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_rounded_files_give_what_their_rounded_weights_give(tmp_path: Path, kind: str) -> None:
    stored = GGMLQuantizationType[kind]

    def as_stored(array: mx.array) -> mx.array:
        numbers = np.array(array.astype(mx.float32))
        return mx.array(dequantize(quantize(numbers, stored), stored)) if array.ndim > 1 else array

    # q and k keep their rows whole, so rounding does not depend on their order.
    rounded = {
        name: as_stored(array).astype(mx.float32) for name, array in random_weights().items()
    }
    expected = convert(write_hf(tmp_path / "hf", rounded), tmp_path / "a")
    notes: list[str] = []
    folder = convert(
        write_gguf(tmp_path / "m.gguf", kind=kind), tmp_path / "b", on_note=notes.append
    )
    assert (folder / WEIGHTS).read_bytes() == (expected / WEIGHTS).read_bytes()
    warned = any(f"rounded before ({kind})" in note for note in notes)
    assert warned == (kind != "F16")


@pytest.mark.parametrize(
    "kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "Q8_0"]
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_of_every_kind_are_rows_of_the_whole(tmp_path: Path, kind: str) -> None:
    from gguf import GGUFWriter

    stored = GGMLQuantizationType[kind]
    block, size = GGML_QUANT_SIZES[stored]
    data = np.random.default_rng(0).integers(0, 256, (24, 2 * size), dtype=np.uint8)
    writer = GGUFWriter(tmp_path / "t.gguf", "llama")
    writer.add_tensor("t", data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensor = GGUFTensor("t", GGUFReader(tmp_path / "t.gguf").tensors[0])
    assert tensor.shape == (24, 2 * block)
    parts = [tensor.read_rows(start, min(start + 7, 24)) for start in range(0, 24, 7)]
    whole = dequantize(data, stored).astype(np.float32)
    assert np.array_equal(np.concatenate(parts).view(np.float32), whole, equal_nan=True)


def test_split_files_are_read_whichever_is_named(tmp_path: Path) -> None:
    whole = convert(write_gguf(tmp_path / "whole.gguf"), tmp_path / "a")
    write_gguf(tmp_path / "split.gguf", split=8)
    parts = sorted(tmp_path.glob("split-*.gguf"))
    assert len(parts) == 3
    folder = convert(parts[1], tmp_path / "b")
    assert (folder / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    parts[2].rename(tmp_path / "third")
    parts[1].rename(parts[2])
    (tmp_path / "third").rename(parts[1])
    with pytest.raises(CheckpointError, match=f"{parts[1].name} says that it is file 3"):
        convert(parts[0], tmp_path / "c")
    parts[2].unlink()
    with pytest.raises(CheckpointError, match=f"{parts[2].name} is missing"):
        convert(parts[0], tmp_path / "c")


def test_tekken_json_is_rebuilt_from_the_vocabulary(tmp_path: Path) -> None:
    folder = convert(write_gguf(tmp_path / "model.gguf"), tmp_path / "out")
    rebuilt = json.loads((folder / "tekken.json").read_text())
    original = json.loads(small_tekken())
    assert [t["token_bytes"] for t in rebuilt["vocab"]] == [
        t["token_bytes"] for t in original["vocab"]
    ]
    assert [t["token_str"] for t in rebuilt["special_tokens"]] == [
        t["token_str"] for t in original["special_tokens"]
    ]
    assert rebuilt["config"] == original["config"]


def test_a_tekken_json_of_the_users_is_taken_instead(tmp_path: Path) -> None:
    path = tmp_path / "tekken.json"
    path.write_text(small_tekken())
    source = write_gguf(tmp_path / "model.gguf", pre="unheard-of")
    folder = convert(source, tmp_path / "out", ConversionOptions(tokenizer=path))
    assert (folder / "tekken.json").read_bytes() == path.read_bytes()


def refused(source: Path, output: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        convert(source, output)
    assert not output.exists()
    assert not Workplace(output).folder.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_wrong_with_a_file_is_named(tmp_path: Path) -> None:
    output = tmp_path / "out"
    whole = write_gguf(tmp_path / "whole.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:-50_000])
    assert "cut.gguf is damaged or no GGUF file" in refused(cut, output)
    page = tmp_path / "page.gguf"
    page.write_text("<html>404</html>" * 100)
    assert "page.gguf is damaged or no GGUF file" in refused(page, output)
    assert "give the model's tekken.json or tokenizer.json with --tokenizer" in refused(
        write_gguf(tmp_path / "other.gguf", pre="unheard-of"), output
    )
    weights = random_weights()
    del weights["model.layers.1.mlp.up_proj.weight"]
    missing = write_gguf(tmp_path / "missing.gguf", weights)
    assert "no tensor model.layers.1.mlp.up_proj.weight" in refused(missing, output)
    assert "does not exist" in refused(tmp_path / "nowhere.gguf", output)
    whole_numbers = write_gguf(tmp_path / "i32.gguf", kind="I32")
    assert "embd.weight has type I32, which cannot be read" in refused(whole_numbers, output)


def test_query_rows_are_those_of_the_hugging_face_layout(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", kind="F32")
    source = open_source(path, fetched=tmp_path / "fetched")
    tensor = next(t for t in source.tensors if t.name.endswith("0.self_attn.q_proj.weight"))
    expected = random_weights()[tensor.name].astype(mx.float32)
    rows = as_array(tensor.read_rows(30, 100), tensor.dtype)
    assert mx.array_equal(rows, expected[30:100]).item()
