"""Anthropic's client: whole and streamed messages, thinking, tools, counts, errors."""

import asyncio
import json
from collections.abc import Iterator

import anthropic
import pytest
from anthropic.types import MessageParam, TextBlock, ThinkingBlock, ToolParam, ToolUseBlock

import magistral_mlx
from magistral_mlx import Magistral, Message
from tests.server.conftest import QUESTION
from tests.server.running_server import RunningServer

ASKED: list[MessageParam] = [{"role": "user", "content": QUESTION}]
TOOL: ToolParam = {
    "name": "look_up",
    "description": "Looks a word up.",
    "strict": True,
    "input_schema": {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["sum", "product"]}},
        "required": ["word"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="EMPTY", max_retries=0) as opened:
        yield opened


def test_thinking_is_a_block_of_its_own_when_it_is_asked_for(
    client: anthropic.Anthropic, name: str, reply: magistral_mlx.Reply
) -> None:
    got = client.messages.create(
        model=name,
        messages=ASKED,
        max_tokens=4000,
        extra_body={"temperature": 0},
        thinking={"type": "enabled", "budget_tokens": 2000},
    )
    thinking, text = got.content
    assert isinstance(thinking, ThinkingBlock)
    assert isinstance(text, TextBlock)
    assert (thinking.thinking, text.text) == (reply.reasoning, reply.answer)
    assert thinking.signature
    assert got.stop_reason == "end_turn"
    assert got.usage.output_tokens == reply.usage.completion_tokens
    cached = got.usage.cache_read_input_tokens or 0
    assert got.usage.input_tokens + cached == reply.usage.prompt_tokens
    hidden = client.messages.create(
        model=name,
        messages=ASKED,
        max_tokens=4000,
        extra_body={"temperature": 0},
        thinking={"type": "adaptive", "display": "omitted"},
    )
    assert isinstance(hidden.content[0], ThinkingBlock)
    assert hidden.content[0].thinking == ""


def test_without_thinking_the_answer_comes_at_once(client: anthropic.Anthropic, name: str) -> None:
    got = client.messages.create(model=name, messages=ASKED, max_tokens=30)
    assert [block.type for block in got.content] == ["text"]
    assert got.usage.output_tokens_details is not None
    assert got.usage.output_tokens_details.thinking_tokens == 0


def test_the_stream_helper_puts_the_same_message_together(
    client: anthropic.Anthropic, name: str, reply: magistral_mlx.Reply
) -> None:
    kinds = []
    with client.messages.stream(
        model=name,
        messages=ASKED,
        max_tokens=4000,
        extra_body={"temperature": 0},
        thinking={"type": "adaptive"},
    ) as stream:
        kinds = [event.type for event in stream]
        got = stream.get_final_message()
    thinking, text = got.content
    assert isinstance(thinking, ThinkingBlock)
    assert isinstance(text, TextBlock)
    assert (thinking.thinking, text.text) == (reply.reasoning, reply.answer)
    assert thinking.signature
    assert got.stop_reason == "end_turn"
    assert got.usage.output_tokens == reply.usage.completion_tokens
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_is_used_and_its_result_goes_back(
    client: anthropic.Anthropic, name: str, streamed: bool
) -> None:
    if streamed:
        with client.messages.stream(
            model=name,
            messages=ASKED,
            max_tokens=300,
            extra_body={"temperature": 0},
            tools=[TOOL],
            tool_choice={"type": "tool", "name": "look_up", "disable_parallel_tool_use": True},
        ) as stream:
            use: object = stream.get_final_message().content[0]
    else:
        first = client.messages.create(
            model=name,
            messages=ASKED,
            max_tokens=300,
            extra_body={"temperature": 0},
            tools=[TOOL],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
        )
        assert first.stop_reason == "tool_use"
        use = first.content[0]
    assert isinstance(use, ToolUseBlock)
    assert use.name == "look_up"
    assert use.input["word"] in ("sum", "product")
    second = client.messages.create(
        model=name,
        messages=[
            *ASKED,
            {"role": "assistant", "content": [json.loads(use.model_dump_json())]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": use.id, "content": "42"},
                    {"type": "text", "text": "Go on."},
                ],
            },
        ],
        max_tokens=5,
        tools=[TOOL],
        tool_choice={"type": "none"},
    )
    assert second.stop_reason == "max_tokens"


def test_the_async_client_streams_too(server: RunningServer, name: str) -> None:
    async def run() -> str:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="x") as client:
            whole = await client.messages.create(model=name, messages=ASKED, max_tokens=2)
            assert whole.stop_reason == "max_tokens"
            async with client.messages.stream(
                model=name, messages=ASKED, max_tokens=12, extra_body={"temperature": 0}
            ) as stream:
                return "".join([text async for text in stream.text_stream])

    assert asyncio.run(run())


def test_tokens_are_counted_as_the_prompt_has_them(
    client: anthropic.Anthropic, name: str, model: Magistral
) -> None:
    counted = client.messages.count_tokens(
        model=name,
        system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        messages=ASKED,
        thinking={"type": "enabled", "budget_tokens": 2000},
    )
    turns = [Message("system", "Be kind."), Message("user", QUESTION)]
    assert counted.input_tokens == model.prompt_tokens(turns)


def test_stop_sequences_are_named(
    client: anthropic.Anthropic, name: str, reply: magistral_mlx.Reply
) -> None:
    got = client.messages.create(
        model=name,
        messages=ASKED,
        max_tokens=4000,
        extra_body={"temperature": 0},
        stop_sequences=["12 +"],
        thinking={"type": "adaptive"},
    )
    assert (got.stop_reason, got.stop_sequence) == ("stop_sequence", "12 +")
    assert isinstance(got.content[1], TextBlock)
    assert got.content[1].text == reply.answer.partition("12 +")[0]


def test_errors_are_in_anthropics_shape(client: anthropic.Anthropic, name: str) -> None:
    with pytest.raises(anthropic.NotFoundError, match="no model 'claude'") as unknown:
        client.messages.create(model="claude", messages=ASKED, max_tokens=3)
    assert isinstance(unknown.value.body, dict)
    assert unknown.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.UnprocessableEntityError, match="container is not supported"):
        client.messages.create(
            model=name, messages=ASKED, max_tokens=3, extra_body={"container": "x"}
        )
    with pytest.raises(anthropic.BadRequestError, match="window holds") as long:
        client.messages.create(
            model=name,
            messages=[{"role": "user", "content": "word " * 50_000}],
            max_tokens=3,
        )
    assert isinstance(long.value.body, dict)
    assert long.value.body["error"]["type"] == "invalid_request_error"
