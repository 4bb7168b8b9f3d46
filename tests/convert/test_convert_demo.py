"""The embedded nano checkpoint, with the full vocabulary, through the converter."""

from collections.abc import Iterator
from pathlib import Path

import mlx_lm
import pytest

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import ConversionOptions, convert
from tests.sample_checkpoints import write_mistral_demo
from tests.text.token_streams import Oracle

TEXT = "Combien font 12 + 30 ?\n<think>\n१२ + ३० = ४२\n</think>\n答えは42です。\t🧮 صحيح"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for outputs, while the expanded checkpoint goes to a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def demo(place: Path) -> Path:
    return convert("demo", place / "demo", ConversionOptions(rtn=True))


def test_demo_converts_to_the_same_weights_from_both_layouts(demo: Path, place: Path) -> None:
    source = write_mistral_demo(place / "source")
    mistral = convert(source, place / "mistral", ConversionOptions(rtn=True))
    assert (demo / "model.safetensors").read_bytes() == (mistral / "model.safetensors").read_bytes()
    assert open_checkpoint(demo).config == open_checkpoint(mistral).config


def test_mlx_lm_reads_the_full_vocabulary_as_mistral_common_does(
    demo: Path, oracle_v11: Oracle
) -> None:
    model, tokenizer = mlx_lm.load(str(demo))[:2]
    ids = oracle_v11.instruct_tokenizer.tokenizer.encode(TEXT, bos=False, eos=False)
    assert tokenizer.encode(TEXT, add_special_tokens=False) == ids
    assert tokenizer.decode(ids) == TEXT
    assert isinstance(mlx_lm.generate(model, tokenizer, TEXT, max_tokens=3), str)
