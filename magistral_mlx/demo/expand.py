"""The demo model of the package, expanded to a checkpoint in the Hugging Face layout."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import mlx.core as mx
from safetensors import safe_open

from magistral_mlx import spec
from magistral_mlx.demo.tekken import VOCAB_SIZE, write_tekken
from magistral_mlx.errors import CheckpointError
from magistral_mlx.folders import CACHE_VARIABLE, cache_folder

_TABLES = ("model.embed_tokens.weight", "lm_head.weight")


def demo_source() -> Path:
    """The expanded demo model in the user's cache folder, written there if it is missing.

    The folder's name contains a digest of the weights, so versions never share a folder.

    Raises CheckpointError when the cache folder cannot be written.
    """
    folder = cache_folder() / f"nano-{demo_digest()}" / "hf"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            expand_demo(Path(scratch) / "hf")
            _publish(Path(scratch) / "hf", folder)
    except OSError as error:
        raise CheckpointError(
            f"The demo model cannot be written to {folder} ({error.strerror}): "
            f"make room there or set {CACHE_VARIABLE} to another folder."
        ) from error
    return folder


def expand_demo(folder: Path) -> None:
    """Write the demo model into a new folder, in bfloat16 with the whole vocabulary."""
    folder.mkdir(parents=True)
    weights, config = _read_weights()
    _write_hf(folder, weights, config)
    write_tekken(folder / "tekken.json")
    (folder / "SYSTEM_PROMPT.txt").write_text(spec.SYSTEM_PROMPT, encoding="utf-8")


def demo_digest() -> str:
    """Eight hexadecimal digits that name this version of the weights."""
    content = resources.files("magistral_mlx.demo").joinpath("nano.safetensors").read_bytes()
    return hashlib.sha256(content).hexdigest()[:8]


def _publish(scratch: Path, folder: Path) -> None:
    try:
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process wrote the same content first
            raise
        shutil.rmtree(scratch)


def _read_weights() -> tuple[dict[str, mx.array], dict[str, float]]:
    """All tensors by their Hugging Face names with full tables, and the stored shape."""
    with resources.as_file(resources.files("magistral_mlx.demo") / "nano.safetensors") as path:
        weights = mx.load(str(path))
        with safe_open(path, framework="numpy") as file:
            config = json.loads(file.metadata()["config"])
    assert isinstance(weights, dict)
    used = weights.pop("used_ids")  # (R,)
    rows = mx.full((VOCAB_SIZE,), used.size, dtype=mx.int32)  # the last row is for all unused ids
    rows[used] = mx.arange(used.size, dtype=mx.int32)
    for name in _TABLES:
        weights[name] = weights[name][rows]  # (R + 1, hidden) -> (vocabulary, hidden)
    return weights, config


def _write_hf(folder: Path, weights: dict[str, mx.array], config: dict[str, float]) -> None:
    _write_json(folder / "config.json", _hf_config(config))
    _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    names = sorted(weights)
    shards = {
        "model-00001-of-00002.safetensors": [n for n in names if n != "lm_head.weight"],
        "model-00002-of-00002.safetensors": ["lm_head.weight"],
    }
    for file, members in shards.items():
        mx.save_safetensors(str(folder / file), {n: weights[n] for n in members}, {"format": "pt"})
    index = {
        "metadata": {"total_size": sum(array.nbytes for array in weights.values())},
        "weight_map": {name: file for file, members in shards.items() for name in members},
    }
    _write_json(folder / "model.safetensors.index.json", index)


def _hf_config(config: dict[str, float]) -> dict[str, object]:
    return {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "vocab_size": VOCAB_SIZE,
        **config,
        "max_position_embeddings": spec.WINDOW,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
