"""Two hundred answers at a high temperature over twenty schemas: each one fits its schema."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import openai
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall

import magistral_mlx
from magistral_mlx.server.answering.settings import ServerSettings
from tests.server.running_server import running_server

Schema = dict[str, object]

PER_SCHEMA = 10


def record(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


INTEGER: Schema = {"type": "integer", "minimum": -999, "maximum": 999}
SHORT: Schema = {"type": "string", "maxLength": 8}
YES: Schema = {"type": "boolean"}
COLOUR: Schema = {"enum": ["red", "grün", "青"]}
NUMBERS: Schema = {"type": "array", "items": INTEGER, "maxItems": 4}

SCHEMAS: list[Schema] = [
    record(sum=INTEGER),
    record(name=SHORT, age={"type": "integer", "minimum": 0, "maximum": 130}),
    record(ok=YES, why=SHORT),
    record(colour=COLOUR),
    record(numbers=NUMBERS),
    record(pair={"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2}),
    record(point=record(x=INTEGER, y=INTEGER)),
    record(deep=record(deeper=record(deepest=YES))),
    record(maybe={"anyOf": [INTEGER, {"type": "null"}]}),
    record(either={"anyOf": [record(a=INTEGER), record(b=SHORT)]}),
    record(code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
    record(day={"type": "string", "format": "date"}),
    record(constant={"const": "always"}),
    record(nothing={"type": "null"}),
    record(ratio={"type": "number", "minimum": 0, "maximum": 1}),
    record(rows={"type": "array", "items": record(id=INTEGER, tag=COLOUR), "maxItems": 2}),
    record(mixed={"type": "array", "prefixItems": [INTEGER, SHORT], "items": False,
                  "minItems": 2}),
    record(reference={"$ref": "#/$defs/leaf"}) | {"$defs": {"leaf": record(leaf=YES)}},
    record(**{"a key": INTEGER, "é": YES}),
    {"type": "object", "properties": {"b": YES}, "additionalProperties": False},
]  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    settings = ServerSettings(port=0, queue=400, aliases=("nano",))
    with (
        magistral_mlx.open_model("demo") as model,
        running_server(model, settings) as server,
        openai.OpenAI(base_url=server.v1, api_key="x", max_retries=0) as opened,
    ):
        yield opened


def as_json(client: openai.OpenAI, schema: Schema, seed: int) -> str:
    got = client.chat.completions.create(
        model="nano",
        messages=[{"role": "user", "content": "Say something."}],
        temperature=5,
        top_p=1,
        seed=seed,
        reasoning_effort="none",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert got.choices[0].finish_reason == "stop"
    return got.choices[0].message.content or ""


def as_call(client: openai.OpenAI, schema: Schema, seed: int) -> str:
    got = client.chat.completions.create(
        model="nano",
        messages=[{"role": "user", "content": "Do something."}],
        temperature=5,
        top_p=1,
        seed=seed,
        reasoning_effort="none",
        parallel_tool_calls=False,
        tool_choice="required",
        tools=[
            {
                "type": "function",
                "function": {"name": "do_it", "parameters": schema, "strict": True},
            }
        ],
    )
    assert got.choices[0].finish_reason == "tool_calls"
    [call] = got.choices[0].message.tool_calls or []
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert call.function.name == "do_it"
    return call.function.arguments


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("ask", [as_json, as_call])
def test_every_answer_fits_its_schema(
    client: openai.OpenAI, ask: Callable[[openai.OpenAI, Schema, int], str]
) -> None:
    asked = [(schema, seed) for schema in SCHEMAS for seed in range(PER_SCHEMA)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda one: ask(client, *one), asked))
    assert len(answers) == 200
    for (schema, _), answer in zip(asked, answers, strict=True):
        jsonschema.validate(json.loads(answer), schema)
    assert len(set(answers)) > 60  # they were drawn, not copied
