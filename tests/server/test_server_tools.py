"""Tools by OpenAI's client: choice, strictness, several calls, streams, and a whole loop."""

import json

import jsonschema
import openai
import pytest
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)

PLACE: dict[str, object] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": PLACE,
        "strict": True,
    },
}
CLOCK: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "clock",
        "strict": True,
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Is it warm in Oslo?"}]


def calls_of(got: ChatCompletion) -> list[ChatCompletionMessageFunctionToolCall]:
    calls = got.choices[0].message.tool_calls or []
    return [c for c in calls if isinstance(c, ChatCompletionMessageFunctionToolCall)]


@pytest.mark.parametrize("seed", range(3))
def test_required_calls_fit_a_strict_tool(client: openai.OpenAI, name: str, seed: int) -> None:
    got = client.chat.completions.create(
        model=name,
        messages=ASKED,
        temperature=3,
        seed=seed,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        reasoning_effort="none",
    )
    [call] = calls_of(got)
    assert call.function.name == "get_weather"
    jsonschema.validate(json.loads(call.function.arguments), PLACE)
    assert got.choices[0].finish_reason == "tool_calls"
    assert got.choices[0].message.content is None


def test_a_named_tool_is_the_one_that_is_called(client: openai.OpenAI, name: str) -> None:
    got = client.chat.completions.create(
        model=name,
        messages=ASKED,
        tools=[WEATHER, CLOCK],
        tool_choice={"type": "function", "function": {"name": "clock"}},
        parallel_tool_calls=False,
        reasoning_effort="none",
    )
    assert [call.function.name for call in calls_of(got)] == ["clock"]


def test_none_makes_no_calls_although_the_tools_are_known(client: openai.OpenAI, name: str) -> None:
    asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is 2 + 3?"}]
    got = client.chat.completions.create(
        model=name,
        messages=asked,
        tools=[WEATHER],
        tool_choice="none",
        max_tokens=80,
        logit_bias={"9": 100},  # [TOOL_CALLS], which the grammar forbids all the same
        reasoning_effort="none",
    )
    assert calls_of(got) == []
    assert "[TOOL_CALLS]" not in (got.choices[0].message.content or "")


def test_a_call_streams_its_name_first_and_its_arguments_in_pieces(
    client: openai.OpenAI, name: str
) -> None:
    whole = client.chat.completions.create(
        model=name,
        messages=ASKED,
        temperature=0,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        reasoning_effort="none",
    )
    deltas = []
    finish = None
    for chunk in client.chat.completions.create(
        model=name,
        messages=ASKED,
        temperature=0,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        reasoning_effort="none",
        stream=True,
    ):
        deltas += chunk.choices[0].delta.tool_calls or []
        finish = chunk.choices[0].finish_reason or finish
    assert deltas[0].function is not None
    assert (deltas[0].function.name, deltas[0].function.arguments) == ("get_weather", "")
    assert deltas[0].id
    assert all(delta.index == 0 for delta in deltas)
    pieces = [d.function.arguments for d in deltas if d.function and d.function.arguments]
    assert len(pieces) > 3
    assert "".join(pieces) == calls_of(whole)[0].function.arguments
    assert finish == "tool_calls"


def test_several_calls_have_ids_of_their_own(client: openai.OpenAI, name: str) -> None:
    got = client.chat.completions.create(
        model=name,
        messages=ASKED,
        temperature=0,
        tools=[CLOCK],
        tool_choice="required",
        reasoning_effort="none",
        max_tokens=40,
        logit_bias={"9": 50, "2": -50},  # the tiny model would call once and end
    )
    calls = calls_of(got)
    assert len(calls) > 1
    assert {call.function.name for call in calls} == {"clock"}
    assert len({call.id for call in calls}) == len(calls)


def test_a_loop_goes_on_from_the_results_of_its_tools(client: openai.OpenAI, name: str) -> None:
    messages = list(ASKED)
    first = client.chat.completions.create(
        model=name,
        messages=messages,
        tools=[WEATHER],
        tool_choice="required",
        reasoning_effort="none",
        parallel_tool_calls=False,
        temperature=0,
    )
    messages.append(
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": call.function.arguments,
                    },
                }
                for call in calls_of(first)
            ],
        }
    )
    for call in calls_of(first):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 21}'})
    second = client.chat.completions.create(
        model=name, messages=messages, tools=[WEATHER], tool_choice="none", max_tokens=30
    )
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens > first.usage.prompt_tokens
    assert calls_of(second) == []
    assert second.choices[0].message.content is not None


def test_a_schema_and_tools_together_give_json_or_a_call(client: openai.OpenAI, name: str) -> None:
    for seed in range(3):
        got = client.chat.completions.create(
            model=name,
            messages=ASKED,
            temperature=3,
            seed=seed,
            tools=[WEATHER],
            reasoning_effort="none",
            parallel_tool_calls=False,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "place", "schema": PLACE},
            },
        )
        message = got.choices[0].message
        text = calls_of(got)[0].function.arguments if message.tool_calls else message.content
        jsonschema.validate(json.loads(text or ""), PLACE)


def test_tool_choice_without_tools_is_refused(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.BadRequestError, match="there are no tools") as refused:
        client.chat.completions.create(model=name, messages=ASKED, tool_choice="required")
    assert refused.value.param == "tool_choice"
