"""The Mistral layout's rope rows against an independent forward pass of that layout."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from magistral_mlx.convert.sources.open_source import open_source
from magistral_mlx.convert.sources.source import as_array
from tests.sample_checkpoints import (
    HEAD_DIM,
    HEADS,
    HF_CONFIG,
    KV_HEADS,
    LAYERS,
    random_weights,
    write_mistral,
)

TOKENS = torch.tensor([1, 5, 77, 1999, 5, 300, 12, 8, 9, 10, 11])


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def rotate_pairs(x: torch.Tensor, theta: float) -> torch.Tensor:
    """mistral-inference's rope: neighbours 2i and 2i + 1 are one complex number."""
    frequencies = theta ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angles = torch.outer(torch.arange(x.shape[0]), frequencies)  # (T, head_dim / 2)
    turns = torch.polar(torch.ones_like(angles), angles)[:, None]
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2)


def mistral_forward(weights: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """Logits (T, vocab) from weights by the Mistral layout's own names."""
    x = weights["tok_embeddings.weight"][tokens]
    causal = torch.full((len(tokens), len(tokens)), -torch.inf).triu(1)
    for layer in range(LAYERS):
        w = {
            name.removeprefix(f"layers.{layer}.").removesuffix(".weight"): array
            for name, array in weights.items()
        }
        normed = rms_norm(x, w["attention_norm"])
        queries = (normed @ w["attention.wq"].T).view(-1, HEADS, HEAD_DIM)
        keys = (normed @ w["attention.wk"].T).view(-1, KV_HEADS, HEAD_DIM)
        values = (normed @ w["attention.wv"].T).view(-1, KV_HEADS, HEAD_DIM)
        queries, keys = rotate_pairs(queries, 1e9), rotate_pairs(keys, 1e9)
        keys, values = (y.repeat_interleave(HEADS // KV_HEADS, 1) for y in (keys, values))
        scores = torch.einsum("qhd,khd->hqk", queries, keys) / HEAD_DIM**0.5 + causal
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), values).flatten(1)
        x = x + mixed @ w["attention.wo"].T
        normed = rms_norm(x, w["ffn_norm"])
        gate = torch.nn.functional.silu(normed @ w["feed_forward.w1"].T)
        x = x + (gate * (normed @ w["feed_forward.w3"].T)) @ w["feed_forward.w2"].T
    return rms_norm(x, weights["norm.weight"]) @ weights["output.weight"].T


def to_torch(array: mx.array) -> torch.Tensor:
    return torch.from_numpy(np.array(array.astype(mx.float32)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Queries and keys are large, so that attention depends on positions."""
    weights = {
        name: array * 6 if name.endswith(("q_proj.weight", "k_proj.weight")) else array
        for name, array in random_weights().items()
    }
    return write_mistral(tmp_path / "mistral", weights)


def test_read_as_hugging_face_it_gives_the_logits_of_mistrals_own_forward(folder: Path) -> None:
    theirs = mx.load(str(folder / "consolidated.safetensors"))
    assert isinstance(theirs, dict)
    expected = mistral_forward({name: to_torch(a) for name, a in theirs.items()}, TOKENS)

    source = open_source(folder, fetched=Path())
    model = MistralForCausalLM(MistralConfig(**HF_CONFIG)).float().eval()
    read = {
        tensor.name: to_torch(as_array(tensor.read_rows(0, tensor.shape[0]), tensor.dtype))
        for tensor in source.tensors
    }
    model.load_state_dict(read)
    with torch.no_grad():
        logits = model(TOKENS[None]).logits[0]

    scale = expected.abs().max()
    assert float((logits - expected).abs().max() / scale) < 1e-5
    # The test can see a wrong order: positions matter to these logits.
    moved = mistral_forward({name: to_torch(a) for name, a in theirs.items()}, TOKENS.roll(1))
    assert float((moved.roll(-1, 0) - expected).abs().max() / scale) > 1e-2


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (63, 65), (10, 200), (130, 131), (0, 256)])
def test_any_rows_of_a_rotated_tensor_are_rows_of_the_whole(
    folder: Path, start: int, stop: int
) -> None:
    queries = next(
        t for t in open_source(folder, fetched=Path()).tensors if t.name.endswith("q_proj.weight")
    )
    whole = queries.read_rows(0, queries.shape[0])
    assert np.array_equal(queries.read_rows(start, stop), whole[start:stop])
