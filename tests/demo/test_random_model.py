"""Random models are ordinary folders, and draw only what has text."""

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.demo.tekken import SPECIAL_TOKENS
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.tokenizer import Tokenizer
from tests.tiny_engine import run

SHAPE = ModelConfig(
    vocab_size=2_000,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    rms_norm_eps=1e-5,
    rope_theta=1e9,
    max_position_embeddings=4_096,
    tie_word_embeddings=False,
    dtype="float32",
    quantization=Quantization(bits=4, group_size=64),
)


@pytest.mark.parametrize("quantization", [SHAPE.quantization, None])
def test_both_engines_open_it_and_draw_the_same_text_tokens(
    tmp_path: Path, quantization: Quantization | None
) -> None:
    folder = write_random_model(tmp_path / "random", replace(SHAPE, quantization=quantization))
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config == replace(SHAPE, quantization=quantization)
    prompt = tuple(range(1_000, 1_020))
    model, _ = load_model(folder)
    steps = generate_step(mx.array(prompt), model, max_tokens=40)
    theirs = [token for token, _ in steps]
    engine = Engine(checkpoint, Tokenizer.open(folder), window=200)
    try:
        greedy = SamplingParams(temperature=0)
        request = Request(
            prompt, options=OutputOptions(sampling=greedy, max_tokens=40, stop_repetition=False)
        )
        (output,) = run(engine, request)
    finally:
        engine.close()
    assert output.tokens == theirs
    assert min(output.tokens) >= SPECIAL_TOKENS


def test_large_models_are_written_in_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magistral_mlx.demo.random_model.SHARD_BYTES", 100_000)
    checkpoint = open_checkpoint(write_random_model(tmp_path / "random", SHAPE))
    assert len(checkpoint.weight_files) > 2
