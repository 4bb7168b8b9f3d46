"""Opening a checkpoint folder: what is read, and what is refused by name."""

import json
import re
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.utils import load_model, quantize_model, save_config, save_model

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import (
    load_weights,
    open_checkpoint,
)
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.checkpoint.weight_shapes import weight_shapes
from magistral_mlx.errors import CheckpointError
from tests.sample_checkpoints import (
    HF_CONFIG,
    PARAMS,
    edit_json,
    random_weights,
    write_hf,
    write_mistral,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_hf(tmp_path / "model")


@pytest.fixture
def quantised(tmp_path: Path, folder: Path) -> Path:
    """The same model as mlx-lm itself converts it."""
    model, config = load_model(folder)
    model, config = quantize_model(model, config, 64, 4)
    save_model(tmp_path / "quantised", model)
    save_config(config, tmp_path / "quantised" / "config.json")
    shutil.copy(folder / "tekken.json", tmp_path / "quantised")
    return tmp_path / "quantised"


def test_both_layouts_of_one_model_give_the_same_config() -> None:
    assert ModelConfig.from_hf(HF_CONFIG) == ModelConfig.from_params(PARAMS)


def test_reads_the_spelling_of_transformers_5() -> None:
    data = {key: value for key, value in HF_CONFIG.items() if key != "torch_dtype"}
    del data["rope_theta"]
    data |= {
        "dtype": "float16",
        "rope_parameters": {"rope_theta": 1e9, "rope_type": "default"},
    }
    config = ModelConfig.from_hf(data)
    assert (config.dtype, config.rope_theta) == ("float16", 1e9)


def test_head_dim_and_kv_heads_have_the_usual_defaults() -> None:
    data = HF_CONFIG | {"head_dim": None, "num_key_value_heads": None}
    config = ModelConfig.from_hf(data)
    assert (config.head_dim, config.num_key_value_heads) == (32, 4)


def test_params_without_a_length_mean_the_cards_window() -> None:
    assert ModelConfig.from_params(PARAMS | {"max_position_embeddings": None}).dtype == "bfloat16"
    without = {key: value for key, value in PARAMS.items() if key != "max_position_embeddings"}
    assert ModelConfig.from_params(without).max_position_embeddings == 128_000
    assert ModelConfig.from_params(without | {"max_seq_len": 9}).max_position_embeddings == 9


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architectures": ["GemmaForCausalLM"]}, "GemmaForCausalLM"),
        ({"model_type": "mixtral"}, "mixtral"),
        ({"rope_scaling": {"type": "yarn", "factor": 4}}, "yarn"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e6}}, "llama3"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"sliding_window": 4096}, "sliding_window"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "sliding_attention"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"torch_dtype": "float8_e4m3fn"}, "float8_e4m3fn"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq"),
        ({"quantization": {"bits": 7, "group_size": 64}}, "7 bits"),
        ({"quantization": {"bits": 4, "group_size": 48}}, "48"),
        ({"quantization": {"bits": 4, "group_size": 32, "mode": "mxfp5"}}, "mxfp5"),
        ({"quantization": {"bits": 4, "group_size": 64, "lm_head": {"bits": 7}}}, "7 bits"),
        ({"num_key_value_heads": 3}, "3 key/value heads"),
        ({"head_dim": 63}, "63"),
        ({"vocab_size": "2000"}, "vocab_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"hidden_size": None}, "hidden_size"),
        ({"rope_theta": None}, "rope_theta"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
    ],
)
def test_config_json_names_what_the_runtime_cannot_do(
    change: dict[str, object], named: str
) -> None:
    with pytest.raises(CheckpointError, match=re.escape(named)):
        ModelConfig.from_hf(HF_CONFIG | change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"moe": {"num_experts": 8}}, "moe"),
        ({"vision_encoder": {"hidden_size": 1024}}, "vision_encoder"),
        ({"yarn": {"factor": 4}}, "yarn"),
        ({"sliding_window": 4096}, "sliding_window"),
        ({"quantization": {"qformat_weight": "fp8_e4m3"}}, "quantization"),
        ({"activation": "gelu"}, "gelu"),
        ({"dim": None}, "dim"),
        ({"norm_eps": -1}, "norm_eps"),
    ],
)
def test_params_json_names_what_the_runtime_cannot_do(
    change: dict[str, object], named: str
) -> None:
    with pytest.raises(CheckpointError, match=named):
        ModelConfig.from_params(PARAMS | change)


def test_opens_a_plain_folder_and_loads_every_tensor(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config == ModelConfig.from_hf(HF_CONFIG)
    assert [path.name for path in checkpoint.weight_files] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert checkpoint.tokenizer_file == folder / "tekken.json"
    loaded = load_weights(checkpoint)
    original = random_weights()
    assert loaded.keys() == original.keys()
    assert all(mx.array_equal(loaded[name], original[name]).item() for name in original)


def test_opens_a_folder_that_mlx_lm_quantised(quantised: Path) -> None:
    checkpoint = open_checkpoint(quantised)
    assert checkpoint.config.quantization == Quantization(bits=4, group_size=64)
    loaded = load_weights(checkpoint)
    assert loaded["lm_head.weight"].dtype == mx.uint32
    assert loaded["lm_head.scales"].dtype == mx.bfloat16
    assert {name: array.shape for name, array in loaded.items()} == weight_shapes(checkpoint.config)


def test_the_weights_own_type_counts_not_the_configs(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "half", random_weights(dtype=mx.float16))
    assert open_checkpoint(folder).config.dtype == "float16"


def test_a_tied_head_is_neither_asked_for_nor_refused(tmp_path: Path) -> None:
    weights = random_weights()
    folder = write_hf(tmp_path / "tied", weights)
    edit_json(folder / "config.json", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_weights(open_checkpoint(folder))
    del weights["lm_head.weight"]
    folder = write_hf(tmp_path / "tied-without", weights, shards=1)
    edit_json(folder / "config.json", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_weights(open_checkpoint(folder))


def test_fingerprint_follows_the_content_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    original = open_checkpoint(folder).fingerprint
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert open_checkpoint(copy).fingerprint == original

    changed = write_hf(tmp_path / "weights", random_weights(seed=1))
    config = tmp_path / "config"
    shutil.copytree(folder, config)
    edit_json(config / "config.json", rope_theta=1e6)
    tokenizer = tmp_path / "tokenizer"
    shutil.copytree(folder, tokenizer)
    edit_json(tokenizer / "tekken.json", type="other")
    prints = {open_checkpoint(path).fingerprint for path in (changed, config, tokenizer)}
    assert len(prints | {original}) == 4


def test_fingerprint_sees_one_changed_tensor(tmp_path: Path) -> None:
    weights = random_weights()
    before = open_checkpoint(write_hf(tmp_path / "before", weights)).fingerprint
    weights["model.layers.1.self_attn.k_proj.weight"] += 1
    assert open_checkpoint(write_hf(tmp_path / "after", weights)).fingerprint != before


def _truncate(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _truncate_header(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:40])


def _empty(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"")


def _web_page(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").write_text("<html>404</html>" * 100)


def _wrong_dtype(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"BF16"', b'"I16" ', 1))


def _wrong_range(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"shape":[128,384]', b'"shape":[128,383]', 1))


def _lost_tensor(folder: Path) -> None:
    weights = random_weights()
    del weights["model.layers.1.mlp.up_proj.weight"]
    shutil.rmtree(folder)
    write_hf(folder, weights)


def _extra_tensor(folder: Path) -> None:
    shutil.rmtree(folder)
    write_hf(folder, random_weights() | {"model.layers.1.self_attn.q_norm.weight": mx.ones(64)})


def _index_outside(folder: Path) -> None:
    edit_json(folder / "model.safetensors.index.json", weight_map={"a": "../a.safetensors"})


def _twice(folder: Path) -> None:
    (folder / "model.safetensors.index.json").unlink()
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-9.safetensors")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), "not valid JSON"),
        (lambda folder: (folder / "tekken.json").unlink(), "tekken.json is missing"),
        (
            lambda folder: (folder / "model-00002-of-00002.safetensors").unlink(),
            "model-00002-of-00002.safetensors is missing",
        ),
        (_truncate, "model-00002-of-00002.safetensors is damaged or incomplete"),
        (_truncate_header, "model-00002-of-00002.safetensors is damaged or incomplete"),
        (_empty, "model-00002-of-00002.safetensors is damaged or incomplete"),
        (_web_page, "model-00002-of-00002.safetensors is damaged or incomplete"),
        (_wrong_dtype, "has type I16"),
        (_wrong_range, "down_proj.weight does not fit its shape"),
        (_lost_tensor, "has no tensor model.layers.1.mlp.up_proj.weight"),
        (_extra_tensor, "has a tensor model.layers.1.self_attn.q_norm.weight"),
        (_index_outside, "../a.safetensors"),
        (_twice, "repeats tensor"),
        (lambda folder: edit_json(folder / "config.json", intermediate_size=320), "(384, 128)"),
        (
            lambda folder: edit_json(
                folder / "config.json", quantization={"bits": 4, "group_size": 64}
            ),
            "has no tensor model.embed_tokens.scales",
        ),
    ],
)
def test_a_damaged_folder_is_refused_by_name(folder: Path, damage: object, named: str) -> None:
    assert callable(damage)
    damage(folder)
    with pytest.raises(CheckpointError, match=re.escape(named)):
        open_checkpoint(folder)


def test_a_quantised_folder_whose_config_forgot_it_is_refused(quantised: Path) -> None:
    edit_json(quantised / "config.json", quantization=None, quantization_config=None)
    with pytest.raises(CheckpointError, match=r"scales|biases"):
        open_checkpoint(quantised)


def test_a_group_size_that_does_not_divide_is_refused_by_name(quantised: Path) -> None:
    edit_json(quantised / "config.json", hidden_size=100)
    with pytest.raises(CheckpointError, match="Group size 64 does not divide the 100 columns"):
        open_checkpoint(quantised)


def test_the_mistral_layout_says_how_to_convert(tmp_path: Path) -> None:
    folder = write_mistral(tmp_path / "official")
    with pytest.raises(CheckpointError, match=r"python -m magistral_mlx\.convert"):
        open_checkpoint(folder)


def test_a_file_is_not_a_folder(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        open_checkpoint(folder / "config.json")


def test_every_message_is_one_sentence_of_one_line(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(HF_CONFIG | {"sliding_window": 7}))
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
