"""What the converter writes: the same tensors as mlx-lm, in a folder that mlx-lm opens."""

import json
import shutil
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from mistral_common.protocol.instruct.messages import UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from magistral_mlx.checkpoint.folder import load_weights, open_checkpoint
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert import (
    ConversionOptions,
    Progress,
    convert,
    default_output,
)
from magistral_mlx.convert.sources import read_ahead
from magistral_mlx.demo.expand import demo_digest
from magistral_mlx.folders import models_folder
from tests.sample_checkpoints import (
    HF_CONFIG,
    PARAMS,
    edit_json,
    random_weights,
    write_hf,
    write_mistral,
)

TEXT = "Was ist 12 + 30?\n<think>\n४२ ist 42.\n</think>\n答えは42です。\t🧮"


@pytest.fixture
def hf(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "hf")


def read(folder: Path) -> dict[str, mx.array]:
    weights: dict[str, mx.array] = {}
    for path in sorted(folder.glob("*.safetensors")):
        loaded = mx.load(str(path))
        assert isinstance(loaded, dict)
        weights |= loaded
    return weights


def assert_same(ours: dict[str, mx.array], theirs: dict[str, mx.array]) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype, name
        bits = mx.uint16 if array.dtype.size == 2 else mx.uint32
        assert mx.array_equal(ours[name].view(bits), array.view(bits)).item(), name


@pytest.mark.parametrize(
    ("bits", "group_size", "dtype"),
    [
        (4, 64, "bfloat16"),
        (4, 32, "float16"),
        (8, 128, "bfloat16"),
        (6, 64, "float32"),
        (5, 32, "bfloat16"),
        (3, 64, "bfloat16"),
        (2, 128, "float16"),
    ],
)
def test_tensors_are_bit_identical_to_mlx_lm(
    hf: Path, tmp_path: Path, bits: int, group_size: int, dtype: str
) -> None:
    ours = convert(
        hf,
        tmp_path / "ours",
        ConversionOptions(bits=bits, group_size=group_size, rtn=True, dtype=dtype),
    )
    mlx_lm.convert(
        str(hf),
        str(tmp_path / "theirs"),
        quantize=True,
        q_bits=bits,
        q_group_size=group_size,
        dtype=dtype,
    )
    assert_same(read(ours), read(tmp_path / "theirs"))
    index = "model.safetensors.index.json"
    assert json.loads((ours / index).read_text()) == json.loads(
        (tmp_path / "theirs" / index).read_text()
    )


@pytest.mark.parametrize("source_dtype", [mx.float32, mx.float16], ids=["float32", "float16"])
def test_other_source_types_are_cast_as_mlx_lm_casts_them(
    tmp_path: Path, source_dtype: mx.Dtype
) -> None:
    source = write_hf(tmp_path / "hf", random_weights(dtype=source_dtype))
    mlx_lm.convert(str(source), str(tmp_path / "theirs"), quantize=True, dtype="bfloat16")
    assert_same(
        read(convert(source, tmp_path / "ours", ConversionOptions(rtn=True))),
        read(tmp_path / "theirs"),
    )


@pytest.mark.parametrize(("block_rows", "rtn"), [(1, True), (3, True), (64, False), (100, False)])
def test_the_size_of_the_row_blocks_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_rows: int, rtn: bool
) -> None:
    """100 rows of heads of 64: blocks that begin and end inside a head are permuted right too.

    The search is made anew for each block, so it gets larger ones.
    """
    source = write_mistral(tmp_path / "mistral")
    whole = convert(source, tmp_path / "whole", ConversionOptions(rtn=rtn))
    monkeypatch.setattr(read_ahead, "BLOCK_BYTES", block_rows * 256)
    assert_same(read(convert(source, tmp_path / "blocks", ConversionOptions(rtn=rtn))), read(whole))


def test_both_layouts_give_identical_folders(hf: Path, tmp_path: Path) -> None:
    mistral = write_mistral(tmp_path / "mistral")
    from_hf, from_mistral = convert(hf, tmp_path / "a"), convert(mistral, tmp_path / "b")
    assert (from_hf / "model.safetensors").read_bytes() == (
        from_mistral / "model.safetensors"
    ).read_bytes()
    assert open_checkpoint(from_hf).config == open_checkpoint(from_mistral).config


def test_a_folder_with_both_layouts_is_read_as_the_official_one_is(
    hf: Path, tmp_path: Path
) -> None:
    (hf / "params.json").write_text(json.dumps(PARAMS))
    (hf / "consolidated.safetensors").write_bytes(b"not read")
    assert_same(
        read(convert(hf, tmp_path / "both")),
        read(convert(write_hf(tmp_path / "one"), tmp_path / "c")),
    )


def test_mlx_lm_opens_the_folder_and_generates_there(hf: Path, tmp_path: Path) -> None:
    folder = convert(hf, tmp_path / "out")
    model, tokenizer = mlx_lm.load(str(folder))[:2]
    assert (model.args.rope_theta, model.args.tie_word_embeddings) == (1e9, False)
    assert tokenizer.eos_token_ids == {2}
    assert isinstance(mlx_lm.generate(model, tokenizer, "Hello", max_tokens=4), str)


def test_mlx_lm_finds_rope_theta_of_a_transformers_5_config(hf: Path, tmp_path: Path) -> None:
    """mlx-lm reads only the top level and would fall back to 10,000 without a word."""
    edit_json(
        hf / "config.json",
        rope_theta=None,
        rope_parameters={"rope_theta": 1e9, "rope_type": "default"},
    )
    model = mlx_lm.load(str(convert(hf, tmp_path / "out")))[0]
    assert model.args.rope_theta == 1e9


def test_mlx_lm_reads_the_head_of_a_config_that_does_not_mention_it(
    hf: Path, tmp_path: Path
) -> None:
    """Absent means untied to transformers and tied to mlx-lm, which would drop the head."""
    edit_json(hf / "config.json", tie_word_embeddings=None)
    model = mlx_lm.load(str(convert(hf, tmp_path / "out")))[0]
    assert "lm_head" in model


def test_token_ids_in_mlx_lm_are_mistral_commons(hf: Path, tmp_path: Path) -> None:
    folder = convert(hf, tmp_path / "out")
    tokenizer = mlx_lm.load(str(folder))[1]
    reference = MistralTokenizer.from_file(str(hf / "tekken.json"))
    ids = reference.instruct_tokenizer.tokenizer.encode(TEXT, bos=False, eos=False)
    assert tokenizer.encode(TEXT, add_special_tokens=False) == ids
    assert tokenizer.decode(ids) == TEXT
    chat = reference.encode_chat_completion(
        ChatCompletionRequest(messages=[UserMessage(content=TEXT)])
    )
    messages = [{"role": "user", "content": TEXT}]
    assert tokenizer.apply_chat_template(messages, add_generation_prompt=True) == chat.tokens


def test_our_own_reader_opens_the_folder(hf: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(
        convert(hf, tmp_path / "out", ConversionOptions(dtype="float16", bits=8))
    )
    assert checkpoint.config.quantization == Quantization(bits=8, group_size=64)
    assert checkpoint.config.dtype == "float16"
    assert load_weights(checkpoint)["model.norm.weight"].dtype == mx.float16


def test_config_json_says_what_mlx_lm_reads(hf: Path, tmp_path: Path) -> None:
    config = json.loads((convert(hf, tmp_path / "out") / "config.json").read_text())
    stored = {"bits": 4, "group_size": 64, "mode": "affine"}
    assert config["quantization"] == config["quantization_config"] == stored
    assert config["torch_dtype"] == "bfloat16"
    kept = {key: value for key, value in HF_CONFIG.items() if key != "torch_dtype"}
    assert kept.items() <= config.items()


def test_the_models_own_small_files_are_copied(hf: Path, tmp_path: Path) -> None:
    (hf / "tokenizer.json").write_text("{}")
    folder = convert(hf, tmp_path / "out")
    for name in ("tekken.json", "generation_config.json", "SYSTEM_PROMPT.txt"):
        assert (folder / name).read_bytes() == (hf / name).read_bytes()
    # That one is written from tekken.json: another program's would give other ids.
    assert (folder / "tokenizer.json").read_text() != "{}"


def test_the_mistral_layout_gets_the_files_it_lacks(tmp_path: Path) -> None:
    folder = convert(write_mistral(tmp_path / "mistral"), tmp_path / "out")
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    assert json.loads((folder / "generation_config.json").read_text()) == ids
    assert ids.items() <= json.loads((folder / "config.json").read_text()).items()


def test_the_manifest_names_the_checksum_of_everything(hf: Path, tmp_path: Path) -> None:
    folder = convert(hf, tmp_path / "out", ConversionOptions(bits=5), shard_bytes=100_000)
    manifest = json.loads((folder / "conversion.json").read_text())
    assert (
        manifest["source"].items()
        >= {
            "name": "hf",
            "layout": "hugging face",
            "dtype": ["BF16"],
        }.items()
    )
    assert manifest["settings"]["recipe"] == "q5"
    assert manifest["versions"]["mlx"] == version("mlx")
    for name, array in read(folder).items():
        plain = np.array(array.view(mx.uint16) if array.dtype.size == 2 else array)
        assert manifest["tensors"][name]["sha256"] == sha256(plain.tobytes()).hexdigest()
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == sha256((folder / name).read_bytes()).hexdigest()
    weights = {path.name for path in folder.glob("*.safetensors")}
    recorded = {entry["file"] for entry in manifest["tensors"].values()}
    assert recorded == weights
    assert weights | set(manifest["files"]) | {"conversion.json"} == {
        path.name for path in folder.iterdir()
    }


def test_the_same_conversion_gives_the_same_bytes(hf: Path, tmp_path: Path) -> None:
    first, second = convert(hf, tmp_path / "first"), convert(hf, tmp_path / "second")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_large_models_are_split_into_shards(hf: Path, tmp_path: Path) -> None:
    one = convert(hf, tmp_path / "one")
    many = convert(hf, tmp_path / "many", shard_bytes=40_000)
    files = sorted(path.name for path in many.glob("*.safetensors"))
    count = len(files)
    assert count > 3
    assert files[0] == f"model-00001-of-{count:05d}.safetensors"
    assert_same(read(many), read(one))
    for path in many.glob("*.safetensors"):
        assert path.stat().st_size < 140_000
    index = json.loads((many / "model.safetensors.index.json").read_text())
    assert all(name in mx.load(str(many / file)) for name, file in index["weight_map"].items())
    mlx_lm.load(str(many))


def test_progress_counts_every_source_byte_once(hf: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    convert(hf, tmp_path / "out", on_progress=seen.append)
    total = sum(array.nbytes for array in random_weights().values())
    assert [step.done for step in seen] == sorted({step.done for step in seen})
    assert seen[-1].done == total
    assert {step.total for step in seen} == {total}
    assert seen[-1].tensor == "lm_head.weight"


def test_outputs_go_to_one_folder_named_from_source_and_bits(
    hf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGISTRAL_MLX_MODELS", str(tmp_path / "models"))
    assert (
        convert(hf, options=ConversionOptions(bits=8))
        == tmp_path / "models" / "hf-8bit"
        == default_output(hf, bits=8)
    )
    assert default_output("demo", bits=4) == models_folder() / f"demo-{demo_digest()}-4bit"


def test_a_folder_of_the_hubs_cache_is_named_after_its_repository(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--mistralai--Magistral-Small-2506" / "snapshots" / "0123abcd"
    assert default_output(snapshot, bits=4).name == "Magistral-Small-2506-4bit"


def test_the_layout_whose_weights_are_there_is_read(hf: Path, tmp_path: Path) -> None:
    """A download of the small files and consolidated.safetensors only has the index as well."""
    mistral = write_mistral(tmp_path / "mistral")
    for name in ("config.json", "model.safetensors.index.json", "SYSTEM_PROMPT.txt"):
        shutil.copy(hf / name, mistral)
    assert_same(read(convert(mistral, tmp_path / "a")), read(convert(hf, tmp_path / "b")))


def test_tied_embeddings_are_stored_once(tmp_path: Path) -> None:
    weights = random_weights()
    del weights["lm_head.weight"]
    source = write_hf(tmp_path / "tied", weights)
    edit_json(source / "config.json", tie_word_embeddings=True)
    mlx_lm.convert(str(source), str(tmp_path / "theirs"), quantize=True)
    assert_same(
        read(convert(source, tmp_path / "ours", ConversionOptions(rtn=True))),
        read(tmp_path / "theirs"),
    )


def test_the_source_is_left_as_it_was(hf: Path, tmp_path: Path) -> None:
    shutil.copytree(hf, tmp_path / "before")
    convert(hf, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in hf.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "before").iterdir()
    }
