"""OpenAI's Responses and Completions, and the token routes, by the real client."""

import json
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai.types.responses import (
    FunctionToolParam,
    Response,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseReasoningItem,
)

import magistral_mlx
from magistral_mlx import GenerationOptions, Magistral, Message
from magistral_mlx.server.answering.settings import ServerSettings
from tests.server.conftest import QUESTION
from tests.server.running_server import RunningServer, running_server

TOOL: FunctionToolParam = {
    "type": "function",
    "name": "look_up",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["sum", "product"]}},
        "required": ["word"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def server(model: Magistral) -> Iterator[RunningServer]:
    with running_server(model, ServerSettings(port=0, stored_bytes=20_000)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.v1, api_key="EMPTY", max_retries=0) as opened:
        yield opened


def test_a_response_has_reasoning_and_a_message(
    client: openai.OpenAI, name: str, reply: magistral_mlx.Reply
) -> None:
    got = client.responses.create(model=name, input=QUESTION, temperature=0)
    thought, message = got.output
    assert isinstance(thought, ResponseReasoningItem)
    assert isinstance(message, ResponseOutputMessage)
    assert thought.content is not None
    assert thought.content[0].text == reply.reasoning
    assert got.output_text == reply.answer
    assert (got.status, got.error, message.status) == ("completed", None, "completed")
    assert got.usage is not None
    assert got.usage.output_tokens_details.reasoning_tokens == reply.usage.reasoning_tokens
    short = client.responses.create(model=name, input=QUESTION, max_output_tokens=5)
    assert short.status == "incomplete"
    assert short.incomplete_details is not None
    assert short.incomplete_details.reason == "max_output_tokens"


def test_the_stream_helper_puts_the_same_response_together(
    client: openai.OpenAI, name: str, reply: magistral_mlx.Reply
) -> None:
    with client.responses.stream(model=name, input=QUESTION, temperature=0) as stream:
        events = list(stream)
        got = stream.get_final_response()
    assert got.output_text == reply.answer
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [str(event.type) for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    added, done = "response.output_item.added", "response.output_item.done"
    assert kinds.count(added) == kinds.count(done) == 2
    thoughts = [e.delta for e in events if e.type == "response.reasoning_text.delta"]
    assert "".join(thoughts) == reply.reasoning


def test_a_response_goes_on_from_an_earlier_one(
    client: openai.OpenAI, name: str, model: Magistral, reply: magistral_mlx.Reply
) -> None:
    first = client.responses.create(
        model=name, input=QUESTION, temperature=0, instructions="Be brief."
    )
    second = client.responses.create(
        model=name,
        input=[{"role": "user", "content": [{"type": "input_text", "text": "And 5 more?"}]}],
        previous_response_id=first.id,
        max_output_tokens=2,
    )
    turns = [
        Message("user", QUESTION),
        Message("assistant", first.output_text),
        Message("user", "And 5 more?"),
    ]
    assert second.usage is not None
    assert second.usage.input_tokens == model.prompt_tokens(turns)  # without the instructions
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    for lost in (lambda: client.responses.retrieve(first.id), lambda: client.responses.create(
        model=name, input="x", previous_response_id=first.id
    )):  # fmt: skip
        with pytest.raises(openai.NotFoundError, match="no response"):
            lost()


def test_items_of_a_response_are_taken_back_as_input(
    client: openai.OpenAI, name: str, model: Magistral
) -> None:
    first = client.responses.create(model=name, input=QUESTION, temperature=0, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    items = [item.model_dump(mode="json", by_alias=True) for item in first.output]
    again = client.responses.create(
        model=name,
        input=[],
        max_output_tokens=2,
        extra_body={
            "input": [
                {"role": "user", "content": QUESTION},
                *items,
                {"role": "user", "content": "Thanks"},
            ]
        },
    )
    turns = [
        Message("user", QUESTION),
        Message("assistant", first.output_text),
        Message("user", "Thanks"),
    ]
    assert again.usage is not None
    assert again.usage.input_tokens == model.prompt_tokens(turns)


def test_stored_conversations_are_bounded(client: openai.OpenAI, name: str) -> None:
    def make() -> str:
        got = client.responses.create(
            model=name, input="x" * 3_000, max_output_tokens=1, reasoning={"effort": "none"}
        )
        return got.id

    ids = [make() for _ in range(5)]
    assert client.responses.retrieve(ids[-1]).id == ids[-1]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(ids[0])


@pytest.mark.parametrize("streamed", [False, True])
def test_functions_are_called_and_their_output_goes_back(
    client: openai.OpenAI, name: str, streamed: bool
) -> None:
    if streamed:
        with client.responses.stream(
            model=name,
            input=QUESTION,
            tools=[TOOL],
            tool_choice="required",
            parallel_tool_calls=False,
            reasoning={"effort": "none"},
        ) as stream:
            got: Response = stream.get_final_response()
    else:
        got = client.responses.create(
            model=name,
            input=QUESTION,
            tools=[TOOL],
            tool_choice={"type": "function", "name": "look_up"},
            parallel_tool_calls=False,
            reasoning={"effort": "none"},
        )
    [call] = got.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert call.name == "look_up"
    assert json.loads(call.arguments)["word"] in ("sum", "product")
    more = client.responses.create(
        model=name,
        previous_response_id=got.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "42"}],
        max_output_tokens=3,
        temperature=0,
    )
    assert more.status == "incomplete"


def test_a_response_can_be_held_to_a_schema(client: openai.OpenAI, name: str) -> None:
    got = client.responses.create(
        model=name,
        input=QUESTION,
        reasoning={"effort": "none"},
        text={
            "format": {
                "type": "json_schema",
                "name": "sum",
                "schema": {
                    "type": "object",
                    "properties": {"sum": {"type": "integer"}},
                    "required": ["sum"],
                    "additionalProperties": False,
                },
            }
        },
    )
    assert isinstance(json.loads(got.output_text)["sum"], int)


def test_completions_go_on_from_text_and_from_ids_alike(
    client: openai.OpenAI, name: str, model: Magistral
) -> None:
    text = "12 + 30 ="
    bos = model.tokenizer.control_id("<s>")
    assert bos is not None
    ids = [bos, *model.tokenizer.encode(text)]
    of_text = client.completions.create(model=name, prompt=text, temperature=0, max_tokens=6)
    of_ids = client.completions.create(model=name, prompt=ids, temperature=0, max_tokens=6)
    assert of_text.choices[0].text == of_ids.choices[0].text
    assert of_text.usage is not None
    assert of_text.usage.prompt_tokens == len(ids)
    chunks = client.completions.create(
        model=name,
        prompt=[text, "7 - 2 ="],
        temperature=0,
        max_tokens=6,
        stream=True,
        logprobs=2,
        stream_options={"include_usage": True},
    )
    texts, offsets = ["", ""], [list[int](), list[int]()]
    usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            if choice.logprobs is not None:
                offsets[choice.index] += choice.logprobs.text_offset or []
            texts[choice.index] += choice.text
    assert texts[0] == of_text.choices[0].text
    assert offsets[0] == sorted(offsets[0])
    assert offsets[0][0] == 0
    assert usage is not None
    assert usage.completion_tokens == 12


def test_completions_leave_the_reasoning_in_the_text(
    client: openai.OpenAI, name: str, model: Magistral, reply: magistral_mlx.Reply
) -> None:
    ids = model.request([Message("user", QUESTION)], GenerationOptions()).prompt
    got = client.completions.create(model=name, prompt=list(ids), temperature=0, max_tokens=4000)
    assert got.choices[0].text == f"<think>\n{reply.reasoning}\n</think>\n{reply.answer}"
    assert got.choices[0].finish_reason == "stop"


def test_tokens_go_there_and_back(server: RunningServer, model: Magistral) -> None:
    with httpx.Client(base_url=server.url) as http:
        text = "Łódź 🌍 [INST]"
        tokens = http.post("/tokenize", json={"content": text}).json()
        assert tokens["tokens"] == model.tokenizer.encode(text)
        assert http.post("/detokenize", json={"tokens": tokens["tokens"]}).json() == {
            "content": text
        }
        asked = {"messages": [{"role": "user", "content": QUESTION}]}
        chat = http.post("/tokenize", json=asked).json()
        assert chat["count"] == model.prompt_tokens(QUESTION)
        assert chat["max_model_len"] == model.window
        for path, body in (("/detokenize", {"tokens": [10**6]}), ("/tokenize", {})):
            assert http.post(path, json=body).status_code == 400
