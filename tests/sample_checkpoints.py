"""Small random checkpoints in both official layouts, written without the code under test."""

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import mlx.core as mx
import numpy as np

from magistral_mlx.demo.expand import demo_source
from magistral_mlx.demo.tekken import write_tekken

VOCAB, HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 2000, 128, 384, 2, 4, 2, 64

HF_CONFIG: dict[str, object] = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e9,
    "sliding_window": None,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}

PARAMS: dict[str, object] = {
    "dim": HIDDEN,
    "n_layers": LAYERS,
    "head_dim": HEAD_DIM,
    "hidden_dim": INNER,
    "n_heads": HEADS,
    "n_kv_heads": KV_HEADS,
    "rope_theta": 1e9,
    "norm_eps": 1e-5,
    "vocab_size": VOCAB,
    "max_position_embeddings": 4096,
}

DEMO_PARAMS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "head_dim": "head_dim",
    "hidden_dim": "intermediate_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "rope_theta": "rope_theta",
    "norm_eps": "rms_norm_eps",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_position_embeddings",
}
"""Fields of params.json, by those of config.json."""

MISTRAL_NAMES = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "layers",
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
}


@cache
def small_tekken() -> str:
    """A v11 tekken.json whose 2,000 tokens fit the sample models."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tekken.json"
        write_tekken(path)
        content = json.loads(path.read_text())
    content["config"] |= {"num_vocab_tokens": 1000, "default_vocab_size": VOCAB}
    content["vocab"] = content["vocab"][:1000]
    return json.dumps(content)


def random_weights(seed: int = 0, dtype: mx.Dtype = mx.bfloat16) -> dict[str, mx.array]:
    """Weights by Hugging Face's names; norms are not all ones, so that a swap shows."""
    numbers = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> mx.array:
        return mx.array(numbers.normal(0, 0.05, (rows, columns)).astype(np.float32)).astype(dtype)

    def norm() -> mx.array:
        return mx.array(numbers.uniform(0.5, 1.5, HIDDEN).astype(np.float32)).astype(dtype)

    weights = {"model.embed_tokens.weight": matrix(VOCAB, HIDDEN)}
    for layer in range(LAYERS):
        start = f"model.layers.{layer}"
        weights |= {
            f"{start}.input_layernorm.weight": norm(),
            f"{start}.self_attn.q_proj.weight": matrix(HEADS * HEAD_DIM, HIDDEN),
            f"{start}.self_attn.k_proj.weight": matrix(KV_HEADS * HEAD_DIM, HIDDEN),
            f"{start}.self_attn.v_proj.weight": matrix(KV_HEADS * HEAD_DIM, HIDDEN),
            f"{start}.self_attn.o_proj.weight": matrix(HIDDEN, HEADS * HEAD_DIM),
            f"{start}.post_attention_layernorm.weight": norm(),
            f"{start}.mlp.gate_proj.weight": matrix(INNER, HIDDEN),
            f"{start}.mlp.up_proj.weight": matrix(INNER, HIDDEN),
            f"{start}.mlp.down_proj.weight": matrix(HIDDEN, INNER),
        }
    return weights | {"model.norm.weight": norm(), "lm_head.weight": matrix(VOCAB, HIDDEN)}


def write_hf(folder: Path, weights: dict[str, mx.array] | None = None, *, shards: int = 2) -> Path:
    """A folder of the Hugging Face layout, in shards with an index or in one file without."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(HF_CONFIG))
    (folder / "tekken.json").write_text(small_tekken())
    (folder / "generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2}')
    (folder / "SYSTEM_PROMPT.txt").write_text("Think first.\n")
    weights = random_weights() if weights is None else weights
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), weights)
        return folder
    weight_map: dict[str, str] = {}
    for number in range(shards):
        name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(weights.items())[number::shards])
        mx.save_safetensors(str(folder / name), part)
        weight_map |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def write_mistral(folder: Path, weights: dict[str, mx.array] | None = None) -> Path:
    """The same weights in the Mistral layout."""
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(PARAMS))
    (folder / "tekken.json").write_text(small_tekken())
    theirs = {}
    for name, array in (random_weights() if weights is None else weights).items():
        rotated = name.endswith(("q_proj.weight", "k_proj.weight"))
        theirs[_mistral_name(name)] = _interleaved(array) if rotated else array
    mx.save_safetensors(str(folder / "consolidated.safetensors"), theirs)
    return folder


def write_mistral_demo(folder: Path) -> Path:
    """The demo model in the Mistral layout."""
    source = demo_source()
    folder.mkdir(parents=True)
    config = json.loads((source / "config.json").read_text())
    params = {theirs: config[ours] for theirs, ours in DEMO_PARAMS.items()}
    (folder / "params.json").write_text(json.dumps(params))
    theirs = {}
    for path in source.glob("*.safetensors"):
        weights = mx.load(str(path))
        assert isinstance(weights, dict)
        for name, array in weights.items():
            rotated = name.endswith(("q_proj.weight", "k_proj.weight"))
            own = _interleaved(array, config["head_dim"]) if rotated else array
            theirs[_mistral_name(name)] = own
    mx.save_safetensors(str(folder / "consolidated.safetensors"), theirs, {"format": "pt"})
    for file in ("tekken.json", "SYSTEM_PROMPT.txt"):
        shutil.copyfile(source / file, folder / file)
    return folder


def edit_json(path: Path, **changes: object) -> None:
    """Change fields of a JSON file; None removes a field."""
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def _mistral_name(name: str) -> str:
    for ours, theirs in MISTRAL_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _interleaved(array: mx.array, head_dim: int = HEAD_DIM) -> mx.array:
    """Row i of a head's first half goes to 2i, of its second half to 2i + 1."""
    rows = np.array(array.astype(mx.float32)).reshape(-1, head_dim, array.shape[1])
    out = np.empty_like(rows)
    out[:, 0::2] = rows[:, : head_dim // 2]
    out[:, 1::2] = rows[:, head_dim // 2 :]
    return mx.array(out.reshape(array.shape)).astype(array.dtype)
