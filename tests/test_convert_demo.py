"""The embedded nano checkpoint, with the full vocabulary, through the converter."""

from pathlib import Path

import mlx_lm
import pytest

from magistral_mlx.checkpoint import open_checkpoint
from magistral_mlx.convert import convert
from magistral_mlx.demo.expand import demo_source
from tests.token_streams import Oracle

TEXT = "Combien font 12 + 30 ?\n<think>\n१२ + ३० = ४२\n</think>\n答えは42です。\t🧮 صحيح"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_demo_converts_to_the_same_weights_from_both_layouts(tmp_path: Path) -> None:
    from_word = convert("demo", tmp_path / "demo")
    from_mistral = convert(demo_source("mistral"), tmp_path / "mistral")
    assert (from_word / "model.safetensors").read_bytes() == (
        from_mistral / "model.safetensors"
    ).read_bytes()
    assert open_checkpoint(from_word).config == open_checkpoint(from_mistral).config


def test_mlx_lm_reads_the_full_vocabulary_as_mistral_common_does(
    tmp_path: Path, oracle_v11: Oracle
) -> None:
    model, tokenizer = mlx_lm.load(str(convert("demo", tmp_path / "demo")))[:2]
    ids = oracle_v11.instruct_tokenizer.tokenizer.encode(TEXT, bos=False, eos=False)
    assert tokenizer.encode(TEXT, add_special_tokens=False) == ids
    assert tokenizer.decode(ids) == TEXT
    assert isinstance(mlx_lm.generate(model, tokenizer, TEXT, max_tokens=3), str)
