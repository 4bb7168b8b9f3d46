"""Plain Llama-architecture checkpoints: converted, opened and asked, against their own programs."""

import json
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from mlx_lm import stream_generate
from mlx_lm.utils import load as mlx_load
from transformers import AutoTokenizer, LlamaForCausalLM

import magistral_mlx
from magistral_mlx import GenerationOptions, Magistral, Message, SamplingParams
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.convert.verification import verify
from magistral_mlx.convert.vocabulary.gguf_vocabulary import write_tokenizer
from magistral_mlx.convert.vocabulary.open_vocabulary import SAMPLE
from magistral_mlx.errors import CheckpointError, RequestError
from magistral_mlx.model.decoder import load_decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.text.guidance import Regex
from magistral_mlx.text.template_tokenizer import TemplateTokenizer, open_tokenizer
from tests.sample_llama import TEMPLATE, write_llama

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Wie heißt du? <|im_end|> 天气 👩🏽‍🔬"},
    {"role": "assistant", "content": "Ich"},
    {"role": "user", "content": "And\n now?"},
]
GREEDY = GenerationOptions(sampling=SamplingParams(temperature=0), max_tokens=24)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama") / "source")


@pytest.fixture(scope="module")
def folder(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("converted") / "plain"
    return convert(source, output, ConversionOptions(recipe="bf16", dtype="float32"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Magistral]:
    with magistral_mlx.open_model(folder, window=512) as opened:
        yield opened


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> TemplateTokenizer:
    return TemplateTokenizer.open(folder)


def messages() -> list[Message]:
    return [Message(turn["role"], turn["content"]) for turn in TURNS]  # type: ignore[arg-type]


def test_logits_equal_transformers(source: Path, folder: Path) -> None:
    ids = np.random.default_rng(0).integers(3, 512, 40)
    oracle = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32)
    with torch.no_grad():
        want = oracle(torch.tensor(ids.tolist())[None]).logits[0].numpy()
    decoder = load_decoder(open_checkpoint(folder))
    found = np.array(decoder(mx.array(ids), [Segment(decoder.make_cache(), 40, 40)]))
    assert np.abs(found - want).max() < 1e-3 * np.abs(want).max()


def test_greedy_tokens_equal_mlx_lms(source: Path, tmp_path: Path) -> None:
    folder = convert(source, tmp_path / "q4", ConversionOptions(group_size=32, dtype="float32"))
    theirs, tokenizer = mlx_load(str(folder))
    prompt = tokenizer.apply_chat_template(TURNS, add_generation_prompt=True)
    expected = [r.token for r in stream_generate(theirs, tokenizer, prompt, max_tokens=24)]
    with magistral_mlx.open_model(folder, window=512) as ours:
        request = ours.request(messages(), GREEDY)
        assert list(request.prompt) == prompt
        reply = ours.generate(messages(), GREEDY)
    stop = [token for token in expected if token not in tokenizer.eos_token_ids]
    assert reply.answer == tokenizer.decode(stop)


def test_prompts_are_transformers_own(source: Path, model: Magistral) -> None:
    oracle = AutoTokenizer.from_pretrained(source)
    for count in (2, 4):
        want = oracle.apply_chat_template(
            TURNS[:count], add_generation_prompt=True, return_dict=False
        )
        assert list(model.request(messages()[:count], GREEDY).prompt) == want
    want = oracle.apply_chat_template(TURNS[:3], continue_final_message=True, return_dict=False)
    assert list(model.request(messages()[:3], GREEDY).prompt) == want


def test_text_survives_encoding_and_streaming(tokenizer: TemplateTokenizer) -> None:
    text = SAMPLE + " <|im_end|> "
    ids = tokenizer.encode(text)
    assert tokenizer.eos_id not in ids
    assert tokenizer.decode(ids) == text
    stream = tokenizer.detokenizer()
    assert "".join(map(stream.push, ids)) + stream.finish() == text
    assert tokenizer.decode([*ids, tokenizer.eos_id]) == text


def test_a_template_without_reasoning_means_an_answer_alone(model: Magistral) -> None:
    request = model.request([Message("user", "Hello")], GREEDY)
    text = model.tokenizer.decode(request.prompt)
    assert request.state == "answer"
    assert text.startswith("user\nHello")  # no system prompt of Magistral's
    with pytest.raises(RequestError, match="has no reasoning"):
        model.request([Message("user", "Hello")], GenerationOptions(reasoning="on"))


def test_a_template_with_tags_has_reasoning(tmp_path: Path) -> None:
    template = TEMPLATE + "{# <think> #}"
    tokenizer = open_tokenizer(write_llama(tmp_path / "tags", template=template))
    assert tokenizer.has_reasoning
    assert tokenizer.decode(tokenizer.think_open_ids) == "<think>\n"


def test_grammars_hold_answers_to_them(model: Magistral) -> None:
    options = GenerationOptions(
        sampling=SamplingParams(temperature=0), max_tokens=24, guidance=Regex("[a-c]{3}é")
    )
    answer = model.generate("Hello", options).answer
    assert len(answer) == 4
    assert set(answer[:3]) <= set("abc")
    assert answer[3] == "é"


def test_it_converts_to_4_bits_and_verifies(source: Path, tmp_path: Path) -> None:
    folder = convert(source, tmp_path / "q4", ConversionOptions(group_size=32))
    assert verify(folder).failed == []
    config = json.loads((folder / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    assert not (folder / "tekken.json").exists()


def test_a_checkpoint_without_a_template_takes_plain_text(source: Path, tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "base", template=None)
    tokenizer = open_tokenizer(folder)
    assert tokenizer.encode("abc")
    with (
        magistral_mlx.open_model(folder, window=256) as model,
        pytest.raises(RequestError, match="no chat template"),
    ):
        model.generate("Hello", GREEDY)


def test_a_gguf_files_vocabulary_becomes_the_same_tokenizer(source: Path, tmp_path: Path) -> None:
    data = json.loads((source / "tokenizer.json").read_text())
    vocabulary = sorted(data["model"]["vocab"], key=data["model"]["vocab"].__getitem__)
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in data["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    reader = GGUFReader(tmp_path / "m.gguf")
    fields = {
        name.removeprefix("tokenizer.ggml."): field.contents()
        for name, field in reader.fields.items()
        if name.startswith("tokenizer.ggml.")
    }
    fields["chat_template"] = TEMPLATE
    rebuilt = TemplateTokenizer.open(write_tokenizer(fields, tmp_path, tmp_path / "m.gguf"))
    original = TemplateTokenizer.open(source)
    assert rebuilt.encode(SAMPLE) == original.encode(SAMPLE)
    assert (rebuilt.bos_id, rebuilt.eos_id) == (1, 2)
    assert rebuilt.control_id("<|im_end|>") == 2
    assert rebuilt.begin_ids == []
    more = {"add_bos_token": True, "eot_token_id": 0}
    fuller = TemplateTokenizer.open(write_tokenizer(fields | more, tmp_path, tmp_path / "m.gguf"))
    assert (fuller.begin_ids, fuller.end_ids) == ([1], (2, 0))
    with pytest.raises(CheckpointError, match="--tokenizer"):
        write_tokenizer(fields | {"pre": "unheard-of"}, tmp_path, tmp_path / "m.gguf")


@pytest.mark.parametrize("content", ["", "{}", '{"model": 1}'])
def test_a_damaged_tokenizer_json_is_refused_by_name(
    source: Path, content: str, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        open_tokenizer(tmp_path)
