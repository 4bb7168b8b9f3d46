"""A checkpoint with more than one end token: every one of them ends an answer."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlx_lm import stream_generate
from mlx_lm.utils import load as mlx_load

import magistral_mlx
from magistral_mlx import GenerationOptions, SamplingParams
from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.errors import CheckpointError
from magistral_mlx.text.guidance import Regex, open_matcher
from magistral_mlx.text.template_tokenizer import TemplateTokenizer
from tests.sample_checkpoints import edit_json
from tests.sample_llama import write_llama
from tests.tiny_engine import run

PROMPT = list(range(10, 20))
GREEDY = GenerationOptions(sampling=SamplingParams(temperature=0), max_tokens=12)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama") / "source")


def mlx_lm_tokens(folder: Path) -> list[int]:
    model, tokenizer = mlx_load(str(folder))
    return [part.token for part in stream_generate(model, tokenizer, PROMPT, max_tokens=12)]


@pytest.fixture(scope="module")
def several(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """Converted with a list of end tokens, the last one what the model soon says; its tokens."""
    place = tmp_path_factory.mktemp("converted")
    tokens = mlx_lm_tokens(
        convert(source, place / "one", ConversionOptions(recipe="bf16", dtype="float32"))
    )
    second = next(token for token in tokens[2:] if token not in tokens[:2])
    copy = shutil.copytree(source, place / "source")
    edit_json(copy / "generation_config.json", eos_token_id=[2, second])
    return convert(copy, place / "two", ConversionOptions(recipe="bf16", dtype="float32")), tokens


def test_every_end_token_ends_an_answer_where_mlx_lm_ends_it(
    several: tuple[Path, list[int]],
) -> None:
    folder, tokens = several
    want = mlx_lm_tokens(folder)
    assert 2 < len(want) < len(tokens)
    with magistral_mlx.open_model(folder, window=256) as model:
        [output] = run(model.engine, model.raw_request(PROMPT, GREEDY))
        later = replace(GREEDY, min_tokens=6)
        [longer] = run(model.engine, model.raw_request(PROMPT, later))
    assert output.tokens == want
    assert output.end.reason == "stop"
    assert output.answer == model.tokenizer.decode(want[:-1])
    assert len(longer.tokens) > 6
    assert not set(longer.tokens[:6]) & set(model.tokenizer.end_ids)


def test_a_grammar_that_may_end_allows_every_end_token(several: tuple[Path, list[int]]) -> None:
    tokenizer = TemplateTokenizer.open(several[0])
    matcher = open_matcher(Regex("a*"), tokenizer, "answer")
    assert len(tokenizer.end_ids) == 2
    assert matcher.allowed(tokenizer.vocab_size)[list(tokenizer.end_ids)].all()


def test_the_converter_keeps_a_list_that_stands_in_config_json_alone(
    source: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(source, tmp_path / "copy")
    (copy / "generation_config.json").unlink()
    edit_json(copy / "config.json", eos_token_id=[2, 300])
    folder = convert(copy, tmp_path / "out", ConversionOptions(group_size=32))
    for name in ("config.json", "generation_config.json"):
        assert json.loads((folder / name).read_text())["eos_token_id"] == [2, 300]
    assert TemplateTokenizer.open(folder).end_ids == (2, 300)


def test_end_tokens_that_no_token_has_are_none(source: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(source, tmp_path / "copy")
    edit_json(copy / "generation_config.json", eos_token_id=[9_999, 2])
    assert TemplateTokenizer.open(copy).end_ids == (2,)
    edit_json(copy / "generation_config.json", eos_token_id=[9_999])
    edit_json(copy / "config.json", eos_token_id=None)
    edit_json(copy / "tokenizer_config.json", eos_token=None)
    with pytest.raises(CheckpointError, match="end token"):
        TemplateTokenizer.open(copy)
