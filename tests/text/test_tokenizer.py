"""Text and ids against mistral-common, and streams of ids against one decode of them all."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistral_common.protocol.instruct.messages import AssistantMessage, ChatMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

from magistral_mlx.demo.tekken import write_tekken
from magistral_mlx.errors import CheckpointError, RequestError
from magistral_mlx.spec import HUB_ID, LANGUAGES
from magistral_mlx.text.tokenizer import Tokenizer
from tests.text.token_streams import Oracle, byte_ids, cut_ids

ARTICLES: dict[str, str] = json.loads(
    Path(__file__)
    .parents[1]
    .joinpath("data")
    .joinpath("human_rights.json")
    .read_text(encoding="utf-8")
)
MIXED = (
    "👩‍👩‍👧‍👦 and 🏴󠁧󠁢󠁷󠁬󠁳󠁿 and 🇳🇵🇺🇦, 👍🏽!",
    "e\u0301 ≠ é; ﷽; 𝔐𝔞𝔤𝔦𝔰𝔱𝔯𝔞𝔩; 𠜎𠜱",
    "Привет, 世界! שלום नमस्ते \u200f مرحبا \u200e 안녕 αβγ → ½ — “ok”",
    "\t tabs\r\n\r\n   spaces   \x00\x1b[0m",
    "Ġ Ċ ▁ <0x0A> ### \\u00e9",
)

# Any ids, control tokens too; single bytes (1,000 to 1,255) often, to break characters apart.
any_id = st.one_of(st.integers(1_000, 1_255), st.integers(0, 131_071), st.integers(0, 40))


def test_a_written_vocabulary_has_the_shape_and_the_ids_of_the_model_card(
    tokenizer_v11: Tokenizer,
) -> None:
    names = {0: "<unk>", 1: "<s>", 2: "</s>", 3: "[INST]", 4: "[/INST]", 9: "[TOOL_CALLS]"}
    names |= {17: "[SYSTEM_PROMPT]", 18: "[/SYSTEM_PROMPT]", 32: "[ARGS]", 33: "[CALL_ID]"}
    assert {tokenizer_v11.control_id(name): name for name in names.values()} == names
    assert (tokenizer_v11.version, tokenizer_v11.vocab_size) == ("v11", 131_072)
    assert (tokenizer_v11.bos_id, tokenizer_v11.eos_id) == (1, 2)
    assert tokenizer_v11.control_id("[THINK]") is None


def test_a_written_vocabulary_encodes_as_the_one_that_mistral_common_carries(
    tokenizer_v11: Tokenizer,
) -> None:
    carried = Oracle.v3(is_tekken=True).instruct_tokenizer.tokenizer
    for text in (*ARTICLES.values(), *MIXED):
        assert tokenizer_v11.encode(text) == carried.encode(text, bos=False, eos=False)


def test_a_vocabulary_replaces_an_older_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "tekken.json"
    path.write_text("old")
    write_tekken(path)
    assert [file.name for file in tmp_path.iterdir()] == ["tekken.json"]
    assert path.stat().st_size < 8_000_000
    assert Tokenizer.open(tmp_path).version == "v11"


def test_a_missing_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tekken\.json is missing"):
        Tokenizer.open(tmp_path)


@pytest.mark.parametrize("keep", [0, 1_000, 4_000_000])
def test_a_truncated_tokenizer_is_refused(tmp_path: Path, tekken_v11: Path, keep: int) -> None:
    file = tmp_path / "tekken.json"
    file.write_bytes(tekken_v11.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is not a complete"):
        Tokenizer.open(file)


@pytest.mark.parametrize("content", ["[]", "{}", '{"config": {"version": "v11"}}', "\udcff"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tekken.json"
    file.write_text(content, errors="surrogateescape")
    with pytest.raises(CheckpointError, match="is not a complete"):
        Tokenizer.open(file)


def test_a_tokenizer_of_another_version_is_refused_with_both_versions(
    tmp_path: Path, tekken_v11: Path
) -> None:
    file = tmp_path / "tekken.json"
    file.write_text(tekken_v11.read_text().replace('"version":"v11"', '"version":"v7"'))
    with pytest.raises(CheckpointError, match="version v7; Magistral has v11 or v13"):
        Tokenizer.open(file)


@pytest.mark.parametrize("name", ["[INST]", "</s>", "[TOOL_CALLS]", "[THINK]", "<SPECIAL_20>"])
def test_control_tokens_in_text_stay_plain_text(tokenizer_v13: Tokenizer, name: str) -> None:
    ids = tokenizer_v13.encode(f"a {name} b")
    assert min(ids) >= 1_000
    assert tokenizer_v13.decode(ids) == f"a {name} b"


def test_think_tags_are_text_in_v11_and_control_tokens_in_v13(
    tokenizer_v11: Tokenizer, tokenizer_v13: Tokenizer
) -> None:
    assert tokenizer_v11.decode(tokenizer_v11.think_open_ids) == "<think>\n"
    assert tokenizer_v11.decode(tokenizer_v11.think_close_ids) == "\n</think>\n"
    assert tokenizer_v11.decode(tokenizer_v11.think_empty_ids) == "<think>\n\n</think>\n"
    assert min(tokenizer_v11.think_open_ids + tokenizer_v11.think_close_ids) >= 1_000
    assert tokenizer_v13.think_open_ids == [tokenizer_v13.control_id("[THINK]")] == [34]
    assert tokenizer_v13.think_close_ids == [tokenizer_v13.control_id("[/THINK]")] == [35]
    assert tokenizer_v13.think_empty_ids == [34, 35]


def test_a_chat_request_is_encoded_as_mistral_common_does(
    tokenizer_v11: Tokenizer, oracle_v11: Oracle
) -> None:
    messages: list[ChatMessage] = [UserMessage(content="Hi"), UserMessage(content="there [INST]")]
    request = ChatCompletionRequest[ChatMessage](model=HUB_ID, messages=messages)
    assert tokenizer_v11.encode_chat(request) == oracle_v11.encode_chat_completion(request).tokens


def test_a_chat_request_that_mistral_common_refuses_names_its_reason(
    tokenizer_v11: Tokenizer,
) -> None:
    messages: list[ChatMessage] = [UserMessage(content="Hi"), AssistantMessage(content="Hello")]
    with pytest.raises(RequestError, match="Expected last role User or Tool"):
        tokenizer_v11.encode_chat(
            ChatCompletionRequest[ChatMessage](model=HUB_ID, messages=messages)
        )


def test_there_is_an_article_in_every_language_of_the_card() -> None:
    assert ARTICLES.keys() == LANGUAGES.keys()


@pytest.mark.parametrize("text", [*ARTICLES.values(), *MIXED], ids=[*ARTICLES, *"12345"])
def test_a_stream_of_text_is_the_text_and_never_shows_a_broken_character(
    tokenizer_v11: Tokenizer, text: str
) -> None:
    pieces = _stream(tokenizer_v11, tokenizer_v11.encode(text))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    # Byte by byte: every character comes whole, with its last byte, and alone.
    bytewise = _stream(tokenizer_v11, byte_ids(text.encode()))
    assert [piece for piece in bytewise if piece] == list(text)


@settings(deadline=None, max_examples=300)
@given(ids=st.lists(any_id, max_size=40))
def test_a_stream_of_any_ids_equals_one_decode_of_them_all(
    tokenizer_v11: Tokenizer, oracle_v11: Oracle, ids: list[int]
) -> None:
    expected = oracle_v11.decode(ids, special_token_policy=SpecialTokenPolicy.IGNORE)
    assert tokenizer_v11.decode(ids) == expected
    assert "".join(_stream(tokenizer_v11, ids)) == expected


@settings(deadline=None, max_examples=200)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    junk=st.binary(max_size=6),
    cuts=st.sets(st.integers(0, 130)),
)
def test_a_stream_is_the_same_whatever_tokens_split_its_bytes(
    tokenizer_v11: Tokenizer, text: str, junk: bytes, cuts: set[int]
) -> None:
    data = text.encode() + junk
    ids = cut_ids(tokenizer_v11, data, cuts)
    assert "".join(_stream(tokenizer_v11, ids)) == data.decode(errors="replace")


def test_a_control_token_gives_no_text_and_ends_a_broken_character(
    tokenizer_v11: Tokenizer,
) -> None:
    first, *rest = byte_ids("é".encode())
    assert _stream(tokenizer_v11, [2, first, 2, *rest, 2]) == ["", "", "\ufffd", "\ufffd", "", ""]


def _stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """The piece of every id, and the last one."""
    detokenizer = tokenizer.detokenizer()
    pieces = [detokenizer.push(token_id) for token_id in ids]
    return [*pieces, detokenizer.finish()]
