"""A calibrated conversion of a model whose embedding is its head too."""

from pathlib import Path

import mlx.core as mx
import pytest
import torch

from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.convert.rounding.importance import write_importance
from magistral_mlx.convert.sources.open_source import open_source
from tests.convert.test_convert_atomic import ROOT
from tests.sample_llama import write_llama


@pytest.mark.slow
def test_importance_weighs_a_tied_embedding_that_calibration_cannot(
    tmp_path: Path,
) -> None:
    """What goes into the head comes last, and the embedding is written first."""
    source = write_llama(tmp_path / "source", dtype=torch.bfloat16)
    text, file = tmp_path / "text.txt", tmp_path / "importance.safetensors"
    text.write_text((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")[:4_000])
    write_importance(open_source(source, fetched=tmp_path), text, file)

    def stored(name: str, module: str) -> mx.array:
        weights = mx.load(str(tmp_path / name / "model.safetensors"))
        assert isinstance(weights, dict)
        return weights[f"{module}.weight"]

    convert(source, tmp_path / "both", ConversionOptions(importance=file, calibrate=text))
    convert(source, tmp_path / "weighted", ConversionOptions(importance=file))
    convert(source, tmp_path / "calibrated", ConversionOptions(calibrate=text))
    embedding, matrix = "model.embed_tokens", "model.layers.0.mlp.up_proj"
    assert mx.array_equal(stored("both", embedding), stored("weighted", embedding))
    assert not mx.array_equal(stored("both", embedding), stored("calibrated", embedding))
    assert not mx.array_equal(stored("both", matrix), stored("weighted", matrix))
