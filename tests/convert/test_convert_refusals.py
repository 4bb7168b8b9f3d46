"""What the converter refuses, before it writes anything."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.convert.cli import main
from magistral_mlx.errors import CheckpointError
from tests.sample_checkpoints import edit_json, random_weights, write_hf, write_mistral

FIRST, SHARD = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"

Damage = Callable[[Path], object]


def refused(source: Path | str, output: Path, options: ConversionOptions | None = None) -> str:
    """The message of the refusal, once it is sure that nothing was written."""
    parent = output.parent
    before = sorted(parent.iterdir()) if parent.exists() else None
    with pytest.raises(CheckpointError) as caught:
        convert(source, output, options)
    assert before == (sorted(parent.iterdir()) if parent.exists() else None)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def swap(folder: Path) -> None:
    """Give the two weight files each other's name."""
    first, second = (folder / FIRST).read_bytes(), (folder / SHARD).read_bytes()
    (folder / FIRST).write_bytes(second)
    (folder / SHARD).write_bytes(first)


def cut(name: str, size: int) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda f: (f / SHARD).unlink(), f"{SHARD} is missing"),
        (cut(SHARD, 5), f"{SHARD} is damaged or incomplete"),
        (cut(SHARD, 300), f"{SHARD} is damaged or incomplete"),
        (cut(SHARD, 90_000), f"{SHARD} is damaged or incomplete"),
        (lambda f: (f / SHARD).rename(f / "model-2.safetensors"), f"{SHARD} is missing"),
        (swap, f"{FIRST} holds tensor"),
        (lambda f: (f / "config.json").write_text("{]"), "config.json is not valid JSON"),
        (lambda f: (f / "generation_config.json").write_text("?"), "generation_config.json is not"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "no weight_map"),
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "tekken.json").unlink(), "tekken.json is missing"),
        (lambda f: (f / "tekken.json").write_text("{"), "not a Tekken vocabulary"),
        (lambda f: (f / "tekken.json").write_text('{"config": {}}'), "not a Tekken vocabulary"),
        (lambda f: edit_json(f / "config.json", architectures=["GemmaForCausalLM"]), "Gemma"),
        (lambda f: edit_json(f / "config.json", sliding_window=4096), "sliding_window"),
        (lambda f: edit_json(f / "config.json", num_attention_heads=2), "q_proj.weight has shape"),
        (lambda f: edit_json(f / "config.json", num_hidden_layers=3), "model.layers.2"),
        (lambda f: edit_json(f / "config.json", num_hidden_layers=1), "model.layers.1"),
        (
            lambda f: edit_json(f / "config.json", quantization={"bits": 4, "group_size": 64}),
            "no tensor model.embed_tokens.scales",
        ),
    ],
)
def test_a_damaged_hugging_face_folder(tmp_path: Path, damage: Damage, named: str) -> None:
    folder = write_hf(tmp_path / "source")
    damage(folder)
    assert named in refused(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (
            lambda f: (f / "consolidated.safetensors").unlink(),
            "consolidated.safetensors is missing",
        ),
        (cut("consolidated.safetensors", 100_000), "consolidated.safetensors is damaged"),
        (lambda f: (f / "params.json").write_text("1"), "params.json is not a JSON object"),
        (lambda f: (f / "params.json").unlink(), "params.json is missing"),
        (lambda f: edit_json(f / "params.json", n_kv_heads=4), "k_proj.weight has shape"),
        (lambda f: edit_json(f / "params.json", moe={"num_experts": 8}), "moe"),
        (lambda f: edit_json(f / "params.json", dim=None), "dim is missing"),
    ],
)
def test_a_damaged_mistral_folder(tmp_path: Path, damage: Damage, named: str) -> None:
    folder = write_mistral(tmp_path / "source")
    damage(folder)
    assert named in refused(folder, tmp_path / "out")


def test_weights_of_another_type(tmp_path: Path) -> None:
    weights = random_weights()
    weights["lm_head.weight"] = mx.zeros(weights["lm_head.weight"].shape, dtype=mx.uint8)
    message = refused(write_hf(tmp_path / "source", weights), tmp_path / "out")
    assert "lm_head.weight has type U8" in message


def test_packed_weights_without_a_quantisation_in_the_config(tmp_path: Path) -> None:
    weights = random_weights()
    weights["lm_head.weight"] = mx.zeros(weights["lm_head.weight"].shape, dtype=mx.uint32)
    message = refused(write_hf(tmp_path / "source", weights), tmp_path / "out")
    assert "lm_head.weight has type U32" in message


def test_a_tokenizer_larger_than_the_vocabulary(tmp_path: Path) -> None:
    weights = random_weights()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:1500]
    folder = write_hf(tmp_path / "source", weights)
    edit_json(folder / "config.json", vocab_size=1500)
    assert "2,000 tokens and the model 1,500" in refused(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (ConversionOptions(bits=7), "7 bits are not supported: choose 2, 3, 4, 5, 6 or 8"),
        (ConversionOptions(bits=16), "16 bits"),
        (ConversionOptions(group_size=48), "Group size 48 is not supported: choose 32, 64 or 128"),
        (
            ConversionOptions(dtype="float8"),
            "'float8' is not supported: choose bfloat16, float16 or float32",
        ),
    ],
)
def test_settings_that_do_not_exist(tmp_path: Path, options: ConversionOptions, named: str) -> None:
    assert named in refused(write_hf(tmp_path / "source"), tmp_path / "out", options)


def test_a_group_size_that_does_not_divide(tmp_path: Path) -> None:
    weights = {
        name: array[:, :96] if array.shape[-1] == 128 and array.ndim == 2 else array
        for name, array in random_weights().items()
    }
    for layer in (0, 1):
        start = f"model.layers.{layer}"
        for name in ("self_attn.o_proj", "mlp.down_proj"):
            weights[f"{start}.{name}.weight"] = weights[f"{start}.{name}.weight"][:96]
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{start}.{name}.weight"] = weights[f"{start}.{name}.weight"][:96]
    weights["model.norm.weight"] = weights["model.norm.weight"][:96]
    folder = write_hf(tmp_path / "source", weights)
    edit_json(folder / "config.json", hidden_size=96)
    message = refused(folder, tmp_path / "out", ConversionOptions(group_size=64))
    assert "Group size 64 does not divide the 96 columns of model.embed_tokens.weight" in message
    assert convert(folder, tmp_path / "out", ConversionOptions(group_size=32)).is_dir()


def test_sources_that_are_no_checkpoint(tmp_path: Path) -> None:
    output = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.bin").write_bytes(b"GGUF")
    assert "neither config.json nor params.json" in refused(tmp_path / "empty", output)
    assert "is not a folder" in refused(tmp_path / "file.bin", output)
    assert "does not exist" in refused("nowhere", output)


def test_an_output_that_exists(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "source")
    output = convert(folder, tmp_path / "out")
    assert "already exists" in refused(folder, output)
    (tmp_path / "file").write_text("mine")
    assert "already exists" in refused(folder, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_force_does_not_delete_what_is_no_model(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "source")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("mine")
    assert "is not a converted model" in refused(
        folder, tmp_path / "home", ConversionOptions(force=True)
    )
    assert "is not a converted model" in refused(
        folder, tmp_path / "file", ConversionOptions(force=True)
    )
    assert (tmp_path / "home" / "thesis.txt").exists()


def test_force_does_not_delete_the_source(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "models" / "source")
    (tmp_path / "link").symlink_to(folder)
    for output in (folder, tmp_path / "models", tmp_path / "link"):
        assert "holds the source itself" in refused(folder, output, ConversionOptions(force=True))


def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=20_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    message = refused(write_hf(tmp_path / "source"), tmp_path / "deep" / "er" / "out")
    assert re.search(r"needs 0\.07 GB and its disk has 0\.02 GB free", message)


def test_what_a_killed_run_left_counts_as_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=20_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "model.safetensors").write_bytes(bytes(100_000_000))
    assert convert(write_hf(tmp_path / "source"), tmp_path / "out").is_dir()


def test_values_that_do_not_fit_the_type(tmp_path: Path) -> None:
    weights = random_weights()
    weights["model.layers.1.mlp.up_proj.weight"][3, 7] = 1e6
    folder = write_hf(tmp_path / "source", weights)
    message = refused(folder, tmp_path / "out", ConversionOptions(dtype="float16"))
    assert "model.layers.1.mlp.up_proj" in message
    assert "not finite in float16" in message
    assert convert(folder, tmp_path / "out", ConversionOptions(dtype="bfloat16")).is_dir()


@pytest.mark.parametrize(
    "arguments",
    [["nowhere"], ["{source}", "{source}"], ["{source}", "{out}", "--bits", "7"]],
    ids=["no source", "onto itself", "bits"],
)
def test_the_command_line_exits_with_2_and_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    places = {"source": write_hf(tmp_path / "source"), "out": tmp_path / "out"}
    command = ["convert", *(argument.format(**places) for argument in arguments)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert printed.err.count("\n") == 1


def test_the_command_line_prints_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAGISTRAL_MLX_MODELS", str(tmp_path / "models"))
    source = write_hf(tmp_path / "source")
    monkeypatch.setattr(sys, "argv", ["convert", str(source), "--bits", "8", "--group-size", "32"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    folder = tmp_path / "models" / "source-8bit"
    assert capsys.readouterr().out.strip() == str(folder)
    assert json.loads((folder / "config.json").read_text())["quantization"]["group_size"] == 32
