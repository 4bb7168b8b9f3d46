"""GGUF files of the sample models, written with llama.cpp's own package."""

import base64
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from tests.sample_checkpoints import (
    HEAD_DIM,
    HEADS,
    HF_CONFIG,
    HIDDEN,
    INNER,
    KV_HEADS,
    LAYERS,
    VOCAB,
    random_weights,
    small_tekken,
)

NAMES = {
    "model.layers": "blk",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    path: Path,
    weights: dict[str, mx.array] | None = None,
    *,
    kind: str = "BF16",
    split: int = 0,
    pre: str = "tekken",
) -> Path:
    """A file as llama.cpp's converter writes it; split: tensors a file, 0 for one file."""
    writer = GGUFWriter(path, "llama", split_max_tensors=split)
    _write_fields(writer, pre)
    for name, array in (random_weights() if weights is None else weights).items():
        numbers = np.array(array.astype(mx.float32))
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            numbers = _permuted(numbers, HEADS if ".q_proj" in name else KV_HEADS)
        # llama.cpp keeps vectors in float32.
        stored = GGMLQuantizationType[kind if numbers.ndim > 1 else "F32"]
        whole = stored is GGMLQuantizationType.I32
        data = numbers.astype(np.int32) if whole else quantize(numbers, stored)
        writer.add_tensor(_gguf_name(name), data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_fields(writer: GGUFWriter, pre: str) -> None:
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e9)
    writer.add_vocab_size(VOCAB)
    writer.add_license("apache-2.0")
    tekken = json.loads(small_tekken())
    special = [token["token_str"] for token in tekken["special_tokens"]]
    words = [_readable(base64.b64decode(token["token_bytes"])) for token in tekken["vocab"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(special + words)
    writer.add_token_types([3] * len(special) + [1] * len(words))
    assert HF_CONFIG["rms_norm_eps"] == 1e-5


def _permuted(numbers: np.ndarray, heads: int) -> np.ndarray:
    """As convert_hf_to_gguf.py's LlamaModel.permute."""
    rows, columns = numbers.shape
    halves = numbers.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def _gguf_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _readable(data: bytes) -> str:
    """GPT-2's bytes_to_unicode, by its definition."""
    printable = set(range(33, 127)) | set(range(161, 173)) | set(range(174, 256))
    rest = [byte for byte in range(256) if byte not in printable]
    return "".join(chr(b) if b in printable else chr(256 + rest.index(b)) for b in data)
