"""tokenizer.json and the chat template made from tekken.json: mistral-common's ids elsewhere."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from mlx_lm import tokenizer_utils
from tokenizers import Tokenizer as JsonTokenizer
from transformers import AutoTokenizer

from magistral_mlx.convert import ConversionOptions, convert
from magistral_mlx.convert.verification import verify
from magistral_mlx.convert.vocabulary.open_vocabulary import SAMPLE, open_vocabulary
from magistral_mlx.convert.vocabulary.tekken_json import CHAT_TEMPLATE, TOKENIZER_JSON
from magistral_mlx.demo.tekken import VOCAB_SIZE
from magistral_mlx.spec import SYSTEM_PROMPT
from tests.sample_checkpoints import write_hf
from tests.text.token_streams import Oracle

ROOT = Path(__file__).resolve().parents[2]

Part = dict[str, Any]

TOOL: Part = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather “today”: é, 天气",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL: Part = {
    "id": "abcDEF123",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Orléans"}'},
}
ASKED: list[Part] = [
    {"role": "system", "content": "Sei kurz."},
    {"role": "user", "content": "Qué tal? 天气"},
]
ANSWERED: list[Part] = [*ASKED, {"role": "assistant", "content": "<think>\nHm\n</think>\nOK"}]
CALLED: list[Part] = [
    *ASKED,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcDEF123", "name": "weather", "content": '{"°C": 21}'},
]
CONVERSATIONS: list[tuple[list[Part], list[Part]]] = [
    ([*ASKED], []),
    ([{"role": "user", "content": "hi"}], []),
    ([*ANSWERED, {"role": "user", "content": "And now?\n"}], []),
    ([*ANSWERED, {"role": "user", "content": "Wetter?"}], [TOOL]),
    ([*CALLED], [TOOL]),
    (
        [*CALLED, {"role": "assistant", "content": "21 °C"}, {"role": "user", "content": "!"}],
        [TOOL],
    ),
]


@dataclass(frozen=True, slots=True)
class Written:
    """A folder with a model's config and its tokenizer, and the same ids by mistral-common."""

    folder: Path
    tekken: Tekkenizer


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, tekken_v11: Path) -> Written:
    """The whole vocabulary, written as a conversion writes it."""
    folder = tmp_path_factory.mktemp("full")
    open_vocabulary(tekken_v11, vocab_size=VOCAB_SIZE).write(
        folder, window=40_960, system_prompt=None
    )
    (folder / "config.json").write_text('{"model_type": "mistral"}')
    return Written(folder, Tekkenizer.from_file(tekken_v11))


def multilingual_texts() -> list[str]:
    """The page's texts in seven languages, the demo's phrases in 25, code, and odd strings."""
    files = [
        *(ROOT / "app" / "texts").glob("*.json"),
        ROOT / "magistral_mlx" / "demo" / "phrases.json",
    ]
    odd = [
        "",
        " ",
        "\n\n\n",
        "a" * 50,
        "  x\r\n\t y",
        "don't DON'T",
        "\ufeff\u200b\u0301e",
        "\x00\x7f",
    ]
    return [SAMPLE, *odd, *(path.read_text(encoding="utf-8") for path in files)]


def test_tokenizer_json_gives_mistral_commons_ids(full: Written) -> None:
    tokenizer = JsonTokenizer.from_file(str(full.folder / TOKENIZER_JSON))
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    for text in multilingual_texts():
        expected = full.tekken.encode(text, bos=True, eos=False)
        ids = tokenizer.encode(text).ids
        assert ids == expected
        assert tokenizer.decode(ids) == text


def test_transformers_and_mlx_lm_read_it_with_and_without_mistral_common(full: Written) -> None:
    plain = AutoTokenizer.from_pretrained(full.folder, mistral_format=False)
    assert type(plain).__name__ == "TokenizersBackend"
    by_default = AutoTokenizer.from_pretrained(full.folder)
    mlx = tokenizer_utils.load(full.folder)
    expected = full.tekken.encode(SAMPLE, bos=True, eos=False)
    for tokenizer in (plain, by_default, mlx):
        assert tokenizer.encode(SAMPLE) == expected
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


@pytest.mark.parametrize("mistral_format", [None, False])
def test_mlx_lm_streams_text_as_it_was(full: Written, mistral_format: bool | None) -> None:
    """It chooses its detokenizer by tokenizer.json, and transformers the tokenizer by another."""
    mlx = tokenizer_utils.load(full.folder, {"mistral_format": mistral_format})
    stream = mlx.detokenizer
    for token in full.tekken.encode(SAMPLE, bos=False, eos=False):
        stream.add_token(token)
    stream.finalize()
    assert stream.text == SAMPLE


@pytest.mark.parametrize(("messages", "tools"), CONVERSATIONS)
def test_the_chat_template_renders_mistral_commons_ids(
    full: Written,
    oracle_v11: Oracle,
    messages: list[Part],
    tools: list[Part],
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(full.folder, mistral_format=False)
    request = ChatCompletionRequest.from_openai(messages=messages, tools=tools or None)
    rendered = tokenizer.apply_chat_template(messages, tools=tools or None, return_dict=False)
    assert rendered == oracle_v11.encode_chat_completion(request).tokens


def test_a_conversion_writes_both_with_the_sources_system_prompt(tmp_path: Path) -> None:
    source = write_hf(tmp_path / "hf")
    (source / "SYSTEM_PROMPT.txt").write_text(SYSTEM_PROMPT)
    folder = convert(source, tmp_path / "out", ConversionOptions(rtn=True))
    tokenizer = AutoTokenizer.from_pretrained(folder, mistral_format=False)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text == f"<s>[SYSTEM_PROMPT]{SYSTEM_PROMPT}[/SYSTEM_PROMPT][INST]hi[/INST]"
    found = verify(folder)
    assert any("tokenizer.json gives the same ids" in line for line in found.passed)
    assert found.failed == []
    assert {"tokenizer.json", "tokenizer_config.json", CHAT_TEMPLATE} <= set(
        json.loads((folder / "conversion.json").read_text())["files"]
    )


def test_verify_finds_a_tokenizer_json_that_differs(tmp_path: Path) -> None:
    folder = convert(write_hf(tmp_path / "hf"), tmp_path / "out", ConversionOptions(rtn=True))
    (folder / "conversion.json").unlink()
    path = folder / TOKENIZER_JSON
    data = json.loads(path.read_text())
    data["model"]["merges"] = data["model"]["merges"][:50]
    data["model"]["ignore_merges"] = False
    path.write_text(json.dumps(data))
    assert any("gives other token ids than tekken.json" in line for line in verify(folder).failed)
