"""Outputs split into reasoning and answer, however tokens cut their tags and characters."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from magistral_mlx.text.output_text import Delta
from magistral_mlx.text.reasoning import OutputState, SplitKind, SplitText, split_reasoning
from magistral_mlx.text.tokenizer import Tokenizer
from tests.text.token_streams import OutputParser, byte_ids, cut_ids

# Pieces that make tags, halves of tags, and what may stand beside them.
pieces = st.sampled_from(
    [
        "<think>",
        "</think>",
        "</thi",
        "nk>",
        "<",
        "</",
        ">",
        "\n",
        "\n\n",
        " ",
        "\t",
        "é",
        "世",
        "👍🏽",
    ]
)
some_text = st.lists(st.one_of(pieces, st.text(max_size=4)), max_size=8).map("".join)
valid_text = some_text.filter(lambda text: text.isascii() or _is_utf8(text))
cut_points = st.sets(st.integers(1, 60))
white_space = st.text(" \n\t\r", max_size=3)
maybe_newline = st.sampled_from(["", "\n"])


@settings(deadline=None, max_examples=300)
@given(
    before=white_space,
    opening=maybe_newline,
    thought=valid_text,
    closing=maybe_newline,
    gap=st.text("\n", max_size=3),
    answer=valid_text,
    cuts=cut_points,
)
def test_reasoning_and_answer_come_out_exactly(
    tokenizer_v11: Tokenizer,
    before: str,
    opening: str,
    thought: str,
    closing: str,
    gap: str,
    answer: str,
    cuts: set[int],
) -> None:
    # Newlines beside a tag are the tag's own unless there is another one.
    assume(opening or not thought.startswith("\n"))
    assume(closing or not thought.endswith("\n"))
    assume("</think>" not in thought and not answer.startswith("\n"))
    text = f"{before}<think>{opening}{thought}{closing}</think>{gap}{answer}"
    for ids in (tokenizer_v11.encode(text), cut_ids(tokenizer_v11, text.encode(), cuts)):
        assert _parse(tokenizer_v11, ids) == (thought, answer, "answer")
    assert split_reasoning(text) == SplitText(reasoning=thought, answer=answer, closed=True)


@settings(deadline=None, max_examples=300)
@given(start=st.sampled_from(["", "<think>", " <think>\n"]), text=valid_text, cuts=cut_points)
def test_any_output_streams_to_what_a_parse_of_the_whole_gives(
    tokenizer_v11: Tokenizer, start: str, text: str, cuts: set[int]
) -> None:
    whole = start + text
    thought, answer, closed = _split_whole(whole)
    state = "answer" if closed else "reasoning"
    expected = (thought or "", answer, state)
    assert _parse(tokenizer_v11, cut_ids(tokenizer_v11, whole.encode(), cuts)) == expected
    assert _parse(tokenizer_v11, byte_ids(whole.encode())) == expected
    assert split_reasoning(whole) == SplitText(thought, answer, closed)


@settings(deadline=None, max_examples=200)
@given(text=valid_text)
def test_only_what_may_still_become_a_closing_tag_is_held_back(
    tokenizer_v11: Tokenizer, text: str
) -> None:
    assume("</think>" not in text)
    parser = OutputParser(tokenizer_v11, state="reasoning")
    shown = ""
    for end, character in enumerate(text, start=1):
        for token_id in byte_ids(character.encode()):
            shown += "".join(delta.text for delta in parser.push_text(token_id))
        held = text[:end].removeprefix(shown)
        assert shown + held == text[:end]
        assert "\n</think>".startswith(held) or "</think>".startswith(held)


@settings(deadline=None, max_examples=200)
@given(text=valid_text, cuts=cut_points)
def test_an_answer_is_shown_at_once(tokenizer_v11: Tokenizer, text: str, cuts: set[int]) -> None:
    parser = OutputParser(tokenizer_v11, state="answer")
    ids = cut_ids(tokenizer_v11, text.encode(), cuts)
    detokenizer = tokenizer_v11.detokenizer()
    for token_id in ids:
        expected = detokenizer.push(token_id)
        assert "".join(delta.text for delta in parser.push_text(token_id)) == expected


@settings(deadline=None, max_examples=200)
@given(thought=valid_text, answer=valid_text, cuts=cut_points)
def test_reasoning_tokens_are_those_that_carry_reasoning_text(
    tokenizer_v11: Tokenizer, thought: str, answer: str, cuts: set[int]
) -> None:
    assume("</think>" not in thought)
    data = f"<think>\n{thought}\n</think>\n{answer}".encode()
    first, last = len(b"<think>\n"), len(b"<think>\n") + len(thought.encode())
    ids = cut_ids(tokenizer_v11, data, cuts)
    parser = OutputParser(tokenizer_v11)
    expected, position = 0, 0
    for token_id in ids:
        parser.push_text(token_id)
        start, position = position, position + len(tokenizer_v11.token_bytes(token_id))
        expected += max(start, first) < min(position, last)
    assert parser.reasoning_tokens == expected


def test_tags_that_are_tokens_of_their_own_are_not_counted(tokenizer_v11: Tokenizer) -> None:
    thought = tokenizer_v11.encode("12 + 30 = 42, so the answer is 42.")
    answer = tokenizer_v11.encode("**42**")
    parser = OutputParser(tokenizer_v11)
    for token_id in [*tokenizer_v11.think_open_ids, *thought]:
        parser.push_text(token_id)
    assert parser.reasoning_tokens == len(thought)
    for token_id in [*tokenizer_v11.think_close_ids, *answer]:
        parser.push_text(token_id)
    assert parser.reasoning_tokens == len(thought)


@pytest.mark.parametrize("version", ["v11", "v13"])
@settings(deadline=None, max_examples=200)
@given(
    data=st.one_of(valid_text.map(str.encode), st.binary(max_size=5)),
    cuts=cut_points,
    opened=st.booleans(),
)
def test_a_forced_close_ends_the_reasoning_at_any_point(
    request: pytest.FixtureRequest, version: str, data: bytes, cuts: set[int], opened: bool
) -> None:
    assume(b"</think>" not in data)
    tokenizer: Tokenizer = request.getfixturevalue(f"tokenizer_{version}")
    parser = OutputParser(tokenizer, state="reasoning" if opened else "auto")
    ids = [] if opened else tokenizer.think_open_ids
    deltas = [
        d for token_id in ids + cut_ids(tokenizer, data, cuts) for d in parser.push_text(token_id)
    ]
    spent = parser.reasoning_tokens
    for token_id in [*tokenizer.think_close_ids, *tokenizer.encode("So: 42")]:
        deltas += parser.push_text(token_id)
    deltas += parser.finish_text()
    thought = data if opened or version == "v11" else data.removeprefix(b"\n")
    if version == "v13":  # its closing token takes the newline before it; v11's has its own
        thought = thought.removesuffix(b"\n")
    else:
        assert parser.reasoning_tokens == spent
    assert parser.state == "answer"
    assert _text(deltas, "reasoning") == thought.decode(errors="replace")
    assert _text(deltas, "answer") == "So: 42"


@pytest.mark.parametrize(
    ("thought", "held"), [("a</thi", "</thi"), ("a\n</", "\n</"), ("a\n", "\n"), ("a\n\n", "\n")]
)
def test_a_partial_tag_held_back_at_a_forced_close_is_reasoning(
    tokenizer_v11: Tokenizer, thought: str, held: str
) -> None:
    parser = OutputParser(tokenizer_v11, state="reasoning")
    ids = byte_ids(thought.encode())
    deltas = [delta for token_id in ids for delta in parser.push_text(token_id)]
    assert _text(deltas, "reasoning") + held == thought
    assert parser.reasoning_tokens == len(ids)
    for token_id in tokenizer_v11.think_close_ids:
        deltas += parser.push_text(token_id)
    assert (_text(deltas, "reasoning"), parser.state) == (thought, "answer")
    assert parser.reasoning_tokens == len(ids)


def test_half_a_character_at_a_forced_close_becomes_one_replacement(
    tokenizer_v11: Tokenizer,
) -> None:
    half = byte_ids("世".encode()[:2])
    ids = [*half, *tokenizer_v11.think_close_ids, *byte_ids("世".encode())]
    assert _parse(tokenizer_v11, ids, state="reasoning") == ("\ufffd", "世", "answer")


@pytest.mark.parametrize(
    ("text", "thought", "answer", "state"),
    [
        ("The answer is 4.", "", "The answer is 4.", "answer"),
        ("  \n The answer", "", "  \n The answer", "answer"),
        ("Use <think>a</think>.", "", "Use <think>a</think>.", "answer"),
        ("<thinking>a", "", "<thinking>a", "answer"),
        ("<thi", "", "<thi", "answer"),
        (" \n", "", " \n", "answer"),
        ("", "", "", "answer"),
        ("<think>\nI am not done", "I am not done", "", "reasoning"),
        ("<think>\nalmost</thi", "almost</thi", "", "reasoning"),
        ("<think>\nalmost\n", "almost\n", "", "reasoning"),
        ("<think>a</think>b</think>c", "a", "b</think>c", "answer"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>", "answer"),
        ("<think>a<think>b</think>c", "a<think>b", "c", "answer"),
        ("<think>\n\n\na\n\n\n</think>\n\n\n b\n", "\n\na\n\n", " b\n", "answer"),
        ("<think>\n</think>\n", "", "", "answer"),
        ("<think></think>", "", "", "answer"),
    ],
)
def test_only_a_tag_at_the_start_opens_and_only_the_first_one_closes(
    tokenizer_v11: Tokenizer, text: str, thought: str, answer: str, state: str
) -> None:
    assert _parse(tokenizer_v11, tokenizer_v11.encode(text)) == (thought, answer, state)
    assert _parse(tokenizer_v11, byte_ids(text.encode())) == (thought, answer, state)


def test_a_prompt_that_opened_the_reasoning_needs_no_tag(tokenizer_v11: Tokenizer) -> None:
    ids = tokenizer_v11.encode("\n<think>x</think>\n\ny")
    assert _parse(tokenizer_v11, ids, state="reasoning") == ("\n<think>x", "y", "answer")


def test_a_prompt_that_began_the_answer_makes_every_tag_text(tokenizer_v11: Tokenizer) -> None:
    text = "\n<think>x</think>\n\ny"
    ids = tokenizer_v11.encode(text)
    assert _parse(tokenizer_v11, ids, state="answer") == ("", text, "answer")


@settings(deadline=None, max_examples=200)
@given(
    before=white_space,
    opening=maybe_newline,
    thought=valid_text,
    closing=maybe_newline,
    gap=st.text("\n", max_size=3),
    answer=valid_text,
    cuts=cut_points,
)
def test_control_tokens_split_as_the_tags_do(
    tokenizer_v13: Tokenizer,
    before: str,
    opening: str,
    thought: str,
    closing: str,
    gap: str,
    answer: str,
    cuts: set[int],
) -> None:
    assume(opening or not thought.startswith("\n"))
    assume(closing or not thought.endswith("\n"))
    assume(not answer.startswith("\n"))
    inside = cut_ids(tokenizer_v13, f"{opening}{thought}{closing}".encode(), cuts)
    after = cut_ids(tokenizer_v13, f"{gap}{answer}".encode(), cuts)
    ids = [*tokenizer_v13.encode(before), 34, *inside, 35, *after, tokenizer_v13.eos_id]
    assert _parse(tokenizer_v13, ids) == (thought, answer, "answer")


def test_with_control_tokens_a_written_tag_is_plain_text(tokenizer_v13: Tokenizer) -> None:
    text = "<think>a</think>b"
    assert _parse(tokenizer_v13, tokenizer_v13.encode(text)) == ("", text, "answer")
    ids = [34, *tokenizer_v13.encode(text), 35, *tokenizer_v13.encode("c"), 35, 34]
    assert _parse(tokenizer_v13, ids) == (text, "c", "answer")


def test_control_tokens_out_of_place_change_nothing(tokenizer_v13: Tokenizer) -> None:
    a, b, c = (tokenizer_v13.encode(text) for text in ("a", "b", "\nc"))
    assert _parse(tokenizer_v13, [35, 34, *a, 34, 35, *b, 35, *c]) == ("a", "b\nc", "answer")
    assert _parse(tokenizer_v13, [*b, 35, *c, 34]) == ("", "b\nc", "answer")


@pytest.mark.parametrize("start", ["", "<think>\nI need the weather.</thi", "Let me see. "])
def test_a_tool_call_ends_the_reasoning_and_is_told_apart(
    tokenizer_v11: Tokenizer, start: str
) -> None:
    ids = [
        *tokenizer_v11.encode(start),
        9,
        *tokenizer_v11.encode("weather"),
        32,
        *tokenizer_v11.encode('{"city": "Oslo"}'),
        tokenizer_v11.eos_id,
    ]
    parser = OutputParser(tokenizer_v11)
    deltas = [
        delta for token_id in ids for delta in parser.push_text(token_id)
    ] + parser.finish_text()
    reasoned = start.startswith("<think>")
    assert _text(deltas, "reasoning") == (start.removeprefix("<think>\n") if reasoned else "")
    assert _text(deltas, "answer") == ("" if reasoned else start)
    assert _text(deltas, "control") == "[TOOL_CALLS][ARGS]"
    assert _text(deltas, "call") == 'weather{"city": "Oslo"}'
    plain = OutputParser(tokenizer_v11, tool_calls=False)
    deltas = [
        delta for token_id in ids for delta in plain.push_text(token_id)
    ] + plain.finish_text()
    assert _text(deltas, "answer").endswith('[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}')


def _parse(
    tokenizer: Tokenizer, ids: list[int], *, state: OutputState = "auto"
) -> tuple[str, str, OutputState]:
    parser = OutputParser(tokenizer, state=state)
    deltas = []
    for token_id in ids:
        new = parser.push_text(token_id)
        assert all(delta.text for delta in new)
        assert len({delta.kind for delta in new}) == len(new)
        deltas += new
    deltas += parser.finish_text()
    assert parser.finish_text() == []
    kinds = [delta.kind for delta in deltas]
    assert kinds == sorted(kinds, reverse=True), "an answer came before the end of the reasoning"
    return _text(deltas, "reasoning"), _text(deltas, "answer"), parser.state


def _text(deltas: list[Delta], kind: SplitKind) -> str:
    return "".join(delta.text for delta in deltas if delta.kind == kind)


def _split_whole(text: str) -> tuple[str | None, str, bool]:
    """The rule of the splitter, told once more without a stream."""
    start = text.lstrip(" \t\r\n\v\f")
    if not start.startswith("<think>"):
        return None, text, True
    thought, tag, answer = start.removeprefix("<think>").removeprefix("\n").partition("</think>")
    return (thought.removesuffix("\n") if tag else thought), answer.lstrip("\n"), bool(tag)


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
