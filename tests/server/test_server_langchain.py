"""LangChain's OpenAI client: an answer, a stream, and a loop with a tool."""

import json

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.server.running_server import RunningServer


@tool
def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


@pytest.fixture
def chat(server: RunningServer, name: str) -> ChatOpenAI:
    return ChatOpenAI(
        model=name, base_url=server.v1, api_key=SecretStr("x"), temperature=0, max_retries=0
    )


def test_an_answer_and_its_stream_are_the_same(chat: ChatOpenAI) -> None:
    whole = chat.invoke("What is 12 + 30?")
    assert isinstance(whole, AIMessage)
    assert "42" in whole.text
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] > 0
    pieces = list(chat.stream("What is 12 + 30?"))
    assert len(pieces) > 3
    assert "".join(piece.text for piece in pieces) == whole.text


def test_a_tool_is_called_and_its_result_goes_on_to_an_answer(chat: ChatOpenAI) -> None:
    asked = HumanMessage("What is 12 + 30?")
    calling = chat.bind_tools([add], tool_choice="required", strict=True)
    called = calling.invoke([asked])
    assert isinstance(called, AIMessage)
    (call,) = called.tool_calls[:1]
    assert call["name"] == "add"
    assert set(call["args"]) == {"a", "b"}
    results = [
        ToolMessage(json.dumps(add.invoke(each["args"])), tool_call_id=each["id"])
        for each in called.tool_calls
    ]
    answer = chat.bind_tools([add]).invoke([asked, called, *results])
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.text


def test_a_tool_call_arrives_in_pieces(chat: ChatOpenAI) -> None:
    pieces = chat.bind_tools([add], tool_choice="add", strict=True).stream("What is 12 + 30?")
    whole = None
    for piece in pieces:
        assert isinstance(piece, AIMessageChunk)
        whole = piece if whole is None else whole + piece
    assert whole is not None
    assert [call["name"] for call in whole.tool_calls] == ["add"]
