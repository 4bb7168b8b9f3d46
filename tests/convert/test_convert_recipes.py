"""Recipes: the bits that each matrix gets, and that mlx-lm and the runtime read them alike."""

import json
from pathlib import Path

import mlx.core as mx
import mlx_lm
import pytest

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import load_weights, open_checkpoint
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.convert.rounding.recipe import Recipe
from magistral_mlx.errors import CheckpointError
from magistral_mlx.memory.byte_counts import weight_bytes
from magistral_mlx.memory.plan import magistral_small
from magistral_mlx.model.decoder import load_decoder
from magistral_mlx.model.token_axis import Segment
from tests.convert.test_convert import assert_same, read
from tests.sample_checkpoints import HF_CONFIG, write_hf

TOKENS = [1, 5, 77, 1999, 5, 300, 12, 8, 9, 10, 11]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hf(tmp_path_factory.mktemp("recipes") / "source")


def our_logits(folder: Path) -> mx.array:
    decoder = load_decoder(open_checkpoint(folder), dtype=mx.float32)
    return decoder(mx.array(TOKENS), [Segment(decoder.make_cache(), len(TOKENS), len(TOKENS))])


def their_logits(folder: Path) -> mx.array:
    model = mlx_lm.load(str(folder))[0]
    model.set_dtype(mx.float32)
    return model(mx.array(TOKENS)[None])[0]


@pytest.mark.parametrize(
    ("recipe", "modules"),
    [
        ("mixed", ()),
        ("mxfp4", ()),
        ("nvfp4", ()),
        ("bf16", ()),
        ("q3", ("*.v_proj=q6/32", "lm_head=q8", "model.embed_tokens=bf16", "*.0.*.k_proj=mxfp4")),
        ("mxfp4", ("*.0.self_attn.*=q8", "*.1.mlp.up_proj=bf16")),
    ],
)
def test_the_runtime_computes_what_mlx_lm_computes_from_the_same_folder(
    source: Path, tmp_path: Path, recipe: str, modules: tuple[str, ...]
) -> None:
    folder = convert(source, tmp_path / "out", ConversionOptions(recipe=recipe, modules=[*modules]))
    ours, theirs = our_logits(folder), their_logits(folder)
    assert float(mx.abs(ours - theirs).max()) < 1e-4 * float(mx.abs(theirs).max())


@pytest.mark.parametrize(("recipe", "group"), [("mxfp4", 32), ("nvfp4", 16)])
def test_floating_recipes_are_bit_identical_to_mlx_lm(
    source: Path, tmp_path: Path, recipe: str, group: int
) -> None:
    ours = convert(source, tmp_path / "ours", ConversionOptions(recipe=recipe))
    mlx_lm.convert(
        str(source), str(tmp_path / "theirs"), quantize=True, q_mode=recipe, q_group_size=group
    )
    theirs = read(tmp_path / "theirs")
    plain = {name: array for name, array in read(ours).items() if array.dtype != mx.uint8}
    assert_same(plain, {name: array for name, array in theirs.items() if array.dtype != mx.uint8})
    for name, array in read(ours).items():
        if array.dtype == mx.uint8:
            assert mx.array_equal(array, theirs[name]).item(), name


def test_a_folder_of_mlx_lm_with_mixed_bits_opens(source: Path, tmp_path: Path) -> None:
    mlx_lm.convert(
        str(source), str(tmp_path / "theirs"), quantize=True, quant_predicate="mixed_3_6"
    )
    config = open_checkpoint(tmp_path / "theirs").config
    assert Quantization(6, 64) in {own for _, own in config.module_quantization}
    ours, theirs = our_logits(tmp_path / "theirs"), their_logits(tmp_path / "theirs")
    assert float(mx.abs(ours - theirs).max()) < 1e-4 * float(mx.abs(theirs).max())


def test_bytes_are_predicted_for_every_format(source: Path, tmp_path: Path) -> None:
    modules = ["*.v_proj=q6/32", "lm_head=nvfp4", "model.embed_tokens=bf16"]
    checkpoint = open_checkpoint(
        convert(source, tmp_path / "out", ConversionOptions(modules=modules))
    )
    loaded = load_weights(checkpoint)
    predicted = weight_bytes(checkpoint.config, "bfloat16")
    assert predicted == sum(array.nbytes for array in loaded.values())


def test_mixed_meets_its_target_and_gives_more_to_what_comes_first() -> None:
    plain = magistral_small(bits=None)
    for target in (3.5, 4.0, 4.8, 5.3):
        config = Recipe("mixed", 64, target).apply(plain)
        bits = 8 * weight_bytes(config, "bfloat16") / 23.57e9
        assert target - 0.06 < bits < target + 0.01
    config = Recipe("mixed").apply(plain)
    base = Quantization(4, 64)
    assert config.quantization == base
    assert config.quantization_of("model.layers.17.self_attn.v_proj") == Quantization(6, 64)
    assert config.quantization_of("lm_head") == Quantization(6, 64)
    assert config.quantization_of("model.layers.0.mlp.down_proj") == Quantization(6, 64)
    assert config.quantization_of("model.layers.20.mlp.down_proj") == base
    assert config.quantization_of("model.layers.0.mlp.up_proj") == base


def test_later_rules_win() -> None:
    config = Recipe("q4", 64, None, ("*_proj=q8", "*.up_proj=q3/128")).apply(
        ModelConfig.from_hf(HF_CONFIG)
    )
    assert config.quantization_of("model.layers.0.mlp.up_proj") == Quantization(3, 128)
    assert config.quantization_of("model.layers.0.mlp.gate_proj") == Quantization(8, 64)
    assert config.quantization_of("lm_head") == Quantization(4, 64)


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        (lambda: Recipe("q7"), "Recipe 'q7' does not exist: choose q2, q3"),
        (lambda: Recipe("q4", 64, 4.8), "are a target of recipe mixed"),
        (lambda: Recipe("mixed", 64, 2.1), "cannot be met: choose from 2.5 to 8.5"),
        (lambda: Recipe("q4", 64, None, ("*.w2=q6",)), "No module matches '*.w2'"),
        (lambda: Recipe("q4", 64, None, ("lm_head",)), "Module rule 'lm_head' is not understood"),
        (lambda: Recipe("q4", 64, None, ("lm_head=q6/48",)), "Group size 48"),
        (lambda: Recipe("bf16", 64, None, ("lm_head=q6",)), "stores all modules alike"),
    ],
)
def test_what_cannot_be_done_is_named(recipe: object, named: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        recipe().apply(ModelConfig.from_hf(HF_CONFIG))  # type: ignore[operator]
    assert named in str(caught.value)


def test_size_and_fit_are_said_before_the_start(source: Path, tmp_path: Path) -> None:
    said: list[str] = []
    convert(
        source,
        tmp_path / "out",
        ConversionOptions(recipe="q8"),
        on_note=said.append,
        on_progress=lambda _: said.append("begun"),
    )
    assert said[0].startswith("q8: 1.1 MB, 8.50 bits per weight. On this machine (")
    assert said[1] == "begun"


def test_config_json_has_mlx_lms_form(source: Path, tmp_path: Path) -> None:
    folder = convert(
        source, tmp_path / "out", ConversionOptions(modules=["lm_head=bf16", "*.0.mlp.up_proj=q6"])
    )
    stored = json.loads((folder / "config.json").read_text())["quantization"]
    assert stored == {
        "bits": 4,
        "group_size": 64,
        "mode": "affine",
        "lm_head": False,
        "model.layers.0.mlp.up_proj": {"bits": 6, "group_size": 64, "mode": "affine"},
    }
