"""Tool calls in an output: the forms that parse, and the text of those that do not."""

import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistral_mlx.events import AnswerText, ReasoningText, ToolCallArguments, ToolCallEvent
from magistral_mlx.text.conversation import Message, ToolCall, build_prompt
from magistral_mlx.text.output_text import TextEvent
from magistral_mlx.text.tokenizer import Tokenizer
from magistral_mlx.text.tool_calls import ToolCallCollector
from tests.text.token_streams import TokenText, cut_ids

Part = str | tuple[str]
"""Text, or the name of a control token in a tuple."""

CALL, ARGS, CALL_ID = ("[TOOL_CALLS]",), ("[ARGS]",), ("[CALL_ID]",)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
arguments = st.dictionaries(st.text(max_size=4), json_values, max_size=3)
names = st.text("abcXYZ019_-", min_size=1, max_size=12)


@settings(deadline=None, max_examples=150)
@given(
    calls=st.lists(st.tuples(names, arguments), min_size=1, max_size=3),
    indent=st.sampled_from([None, 2]),
    cuts=st.sets(st.integers(1, 40)),
    with_id=st.booleans(),
)
def test_any_calls_come_out_as_they_went_in_however_tokens_cut_them(
    tokenizer_v11: Tokenizer,
    calls: list[tuple[str, dict[str, object]]],
    indent: int | None,
    cuts: set[int],
    with_id: bool,
) -> None:
    parts: list[Part] = ["<think>\nhm\n</think>\n"]
    for number, (name, value) in enumerate(calls):
        called: list[Part] = [CALL_ID, f"abcdefgh{number}"] if with_id else []
        text = json.dumps(value, indent=indent, ensure_ascii=False).replace("\\u", "\\u")
        parts += [CALL, name, *called, ARGS, " " + text]
    events = told(tokenizer_v11, parts, cuts)
    found = collected(events)
    assert [(c.name, json.loads(c.arguments)) for c in found] == calls
    assert not with_id or [c.id for c in found] == [f"abcdefgh{i}" for i in range(len(calls))]
    assert len({c.id for c in found}) == len(calls)
    assert all(len(c.id) == 9 and c.id.isalnum() for c in found)
    assert (shown(events, ReasoningText), shown(events, AnswerText)) == ("hm", "")


def test_arguments_are_told_while_they_come(tokenizer_v11: Tokenizer) -> None:
    output = TokenText(tokenizer_v11)
    ids = encoded(tokenizer_v11, [CALL, "write", ARGS, '{"text": "one two three"}'])
    pieces = [[e for e in output.push(i) if isinstance(e, ToolCallArguments)] for i in ids]
    assert sum(bool(piece) for piece in pieces) >= 5


def test_the_older_list_form_is_read(tokenizer_v11: Tokenizer) -> None:
    calls = '[{"name": "add", "arguments": {"a": 1}, "id": "x1"}, {"name": "now"}]'
    events = told(tokenizer_v11, ["Let me see. ", CALL, calls, " "])
    first, second = collected(events)
    assert (first.id, first.name, json.loads(first.arguments)) == ("x1", "add", {"a": 1})
    assert (second.name, second.arguments) == ("now", "{}")
    assert shown(events, AnswerText) == "Let me see. "


def test_what_mistral_common_writes_into_a_history_is_read_back(tokenizer_v11: Tokenizer) -> None:
    call = ToolCall("abc123XYZ", "weather", '{"city": "Łódź 🌍"}')
    messages = [
        Message("user", "Hi"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "1", tool_call_id=call.id),
    ]
    ids = build_prompt(tokenizer_v11, messages, system="replace").ids
    begin, end = tokenizer_v11.control_id("[TOOL_CALLS]"), tokenizer_v11.eos_id
    assert begin is not None
    written = ids[ids.index(begin) : ids.index(end)]
    output = TokenText(tokenizer_v11)
    events = [event for token in written for event in output.push(token)] + output.finish()
    assert collected(events) == (call,)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([CALL, "we ather", ARGS, "{}"], "[TOOL_CALLS]we ather[ARGS]{}"),
        ([CALL, "w", ARGS, "42"], "[TOOL_CALLS]w[ARGS]42"),
        ([CALL, "w", ARGS, '{"a": }', " x"], '[TOOL_CALLS]w[ARGS]{"a": } x'),
        ([CALL, "w", ARGS, '{"a": NaN}'], '[TOOL_CALLS]w[ARGS]{"a": NaN}'),
        ([CALL, "w", ARGS, '{"a": "cut'], '[TOOL_CALLS]w[ARGS]{"a": "cut'),
        ([CALL, "w"], "[TOOL_CALLS]w"),
        ([CALL, CALL_ID, "x", ARGS, "{}"], "[TOOL_CALLS][CALL_ID]x[ARGS]{}"),
        ([CALL, "w", ARGS, '{"a"', ARGS, ": 1}"], '[TOOL_CALLS]w[ARGS]{"a"[ARGS]: 1}'),
        ([CALL, '[{"name": "a b"}]'], '[TOOL_CALLS][{"name": "a b"}]'),
        ([CALL, '[{"name": "a"}, 1]'], '[TOOL_CALLS][{"name": "a"}, 1]'),
        ([CALL, "[]"], "[TOOL_CALLS][]"),
        (["a ", ARGS, "b"], "a [ARGS]b"),
    ],
)
def test_what_does_not_parse_comes_back_as_text_with_a_line_in_the_log(
    tokenizer_v11: Tokenizer,
    caplog: pytest.LogCaptureFixture,
    parts: list[Part],
    text: str,
) -> None:
    with caplog.at_level(logging.WARNING):
        events = told(tokenizer_v11, parts)
    assert (shown(events, AnswerText), collected(events)) == (text, ())
    assert ("given back as text" in caplog.text) == (parts[0] == CALL)
    assert text not in caplog.text


def test_a_call_that_fails_leaves_the_next_one_alone(tokenizer_v11: Tokenizer) -> None:
    events = told(tokenizer_v11, [CALL, "a", ARGS, "{x}", CALL, "b", ARGS, "{}", "\nBye"])
    assert [call.name for call in collected(events)] == ["b"]
    assert shown(events, AnswerText) == "[TOOL_CALLS]a[ARGS]{x}Bye"


def test_text_that_looks_like_a_call_is_text(tokenizer_v11: Tokenizer) -> None:
    text = '[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}'
    events = told(tokenizer_v11, [text])
    assert (shown(events, AnswerText), collected(events)) == (text, ())


def test_stop_strings_are_not_looked_for_in_calls(tokenizer_v11: Tokenizer) -> None:
    output = TokenText(tokenizer_v11, stop=("END", "--"))
    ids = encoded(tokenizer_v11, ["text EN", CALL, "f", ARGS, '{"a": "END--"}'])
    events = [event for token in ids for event in output.push(token)] + output.finish()
    assert output.stop_string is None
    assert [call.arguments for call in collected(events)] == ['{"a": "END--"}']
    assert shown(events, AnswerText) == "text EN"


def told(tokenizer: Tokenizer, parts: list[Part], cuts: set[int] | None = None) -> list[TextEvent]:
    output = TokenText(tokenizer)
    ids = encoded(tokenizer, parts, cuts or set())
    return [event for token in ids for event in output.push(token)] + output.finish()


def encoded(tokenizer: Tokenizer, parts: list[Part], cuts: set[int] | None = None) -> list[int]:
    ids: list[int] = []
    for part in parts:
        if isinstance(part, str):
            ids += cut_ids(tokenizer, part.encode(), cuts or set())
        else:
            control = tokenizer.control_id(part[0])
            assert control is not None
            ids.append(control)
    return ids


def collected(events: list[TextEvent]) -> tuple[ToolCall, ...]:
    collector = ToolCallCollector()
    for event in events:
        if isinstance(event, ToolCallEvent):
            collector.add(event)
    return collector.calls


def shown(events: list[TextEvent], kind: type[AnswerText] | type[ReasoningText]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))
