"""Chat completions by OpenAI's own client, sync and async, against a real server."""

import asyncio
import json

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam

import magistral_mlx
from magistral_mlx import GenerationOptions, Magistral, Message, SamplingParams
from magistral_mlx.engine.status import StepReport
from tests.server.conftest import QUESTION
from tests.server.running_server import RunningServer, wait_for

ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]


def extra(message: object, name: str) -> object:
    """A field that OpenAI's types do not have."""
    return getattr(message, name)


def test_an_answer_is_that_of_the_python_api_with_its_reasoning_under_both_names(
    client: openai.OpenAI, name: str, reply: magistral_mlx.Reply
) -> None:
    got = client.chat.completions.create(model=name, messages=ASKED, temperature=0)
    message = got.choices[0].message
    assert message.content == reply.answer
    assert extra(message, "reasoning_content") == extra(message, "reasoning") == reply.reasoning
    assert got.choices[0].finish_reason == "stop"
    assert (got.object, got.model) == ("chat.completion", name)
    assert got.usage is not None
    assert got.usage.completion_tokens_details is not None
    assert got.usage.completion_tokens_details.reasoning_tokens == reply.usage.reasoning_tokens
    assert got.usage.completion_tokens == reply.usage.completion_tokens
    assert got.usage.total_tokens == got.usage.prompt_tokens + got.usage.completion_tokens
    timings = extra(got, "timings")
    assert isinstance(timings, dict)
    assert timings["predicted_n"] == reply.usage.completion_tokens
    assert timings["predicted_per_second"] > 0
    assert timings["cache_n"] + timings["prompt_n"] == got.usage.prompt_tokens


def test_a_stream_gives_the_same_text_and_its_counts_in_the_last_chunk(
    client: openai.OpenAI, name: str, reply: magistral_mlx.Reply
) -> None:
    chunks = list(
        client.chat.completions.create(
            model=name,
            messages=ASKED,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert streamed(chunks, "content") == reply.answer
    assert streamed(chunks, "reasoning_content") == streamed(chunks, "reasoning") == reply.reasoning
    assert len(chunks) > 20
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    usage = chunks[-1].usage
    assert chunks[-1].choices == []
    assert usage is not None
    assert usage.completion_tokens == reply.usage.completion_tokens
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_async_client_streams_several_answers_at_once(
    server: RunningServer, name: str, reply: magistral_mlx.Reply
) -> None:
    async def one(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(
            model=name, messages=ASKED, temperature=0, stream=True
        )
        return streamed([chunk async for chunk in stream], "content")

    async def three() -> list[str]:
        async with openai.AsyncOpenAI(base_url=server.v1, api_key="x") as client:
            return await asyncio.gather(*(one(client) for _ in range(3)))

    assert asyncio.run(three()) == [reply.answer] * 3


def test_raw_leaves_the_reasoning_in_the_content(
    client: openai.OpenAI, name: str, reply: magistral_mlx.Reply
) -> None:
    body = {"reasoning_format": "raw"}
    whole = client.chat.completions.create(
        model=name, messages=ASKED, temperature=0, extra_body=body
    )
    expected = f"<think>\n{reply.reasoning}\n</think>\n{reply.answer}"
    assert whole.choices[0].message.content == expected
    assert not hasattr(whole.choices[0].message, "reasoning")
    chunks = list(
        client.chat.completions.create(
            model=name, messages=ASKED, temperature=0, stream=True, extra_body=body
        )
    )
    assert streamed(chunks, "content") == expected


def test_n_answers_have_seeds_of_their_own_and_one_prefill(
    client: openai.OpenAI, name: str, model: Magistral, steps: list[StepReport]
) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Add 217 and 58."}]
    before = len(steps)
    got = client.chat.completions.create(
        model=name, messages=messages, temperature=9, top_p=1, seed=7, n=3, max_tokens=12
    )
    prefilled = sum(step.prefill_tokens for step in steps[before:])
    assert got.usage is not None
    assert prefilled < 1.5 * got.usage.prompt_tokens
    texts = [choice_text(got, index) for index in range(3)]
    for index, text in enumerate(texts):
        options = GenerationOptions(
            sampling=SamplingParams(temperature=9, top_p=1, seed=7 + index), max_tokens=12
        )
        alone = model.generate("Add 217 and 58.", options)
        assert text == alone.reasoning + alone.answer
    assert len(set(texts)) == 3
    assert got.usage.completion_tokens == 36
    chunks = client.chat.completions.create(
        model=name,
        messages=messages,
        temperature=9,
        top_p=1,
        seed=7,
        n=3,
        max_tokens=12,
        stream=True,
    )
    joined = [""] * 3
    for chunk in chunks:
        for choice in chunk.choices:
            delta = choice.delta.model_dump(exclude_unset=True)
            joined[choice.index] += delta.get("content", "") + delta.get("reasoning", "")
    assert joined == texts


@pytest.mark.parametrize("effort", ["none", "minimal"])
def test_effort_and_budget_bound_the_reasoning(
    client: openai.OpenAI, name: str, effort: str
) -> None:
    body = {"reasoning_effort": effort} if effort == "none" else {"thinking_budget": 8}
    got = client.chat.completions.create(
        model=name, messages=ASKED, temperature=0, max_tokens=60, extra_body=body
    )
    assert got.usage is not None
    assert got.usage.completion_tokens_details is not None
    tokens = got.usage.completion_tokens_details.reasoning_tokens
    assert tokens == 0 if effort == "none" else tokens and tokens <= 8
    forced = got.choices[0].model_extra or {}
    assert forced.get("reasoning_closed_by_force", False) == (effort != "none")


def test_reasoning_comes_back_under_either_name_or_in_the_content(
    server: RunningServer, client: openai.OpenAI, name: str, model: Magistral
) -> None:
    expected = model.prompt_tokens(
        [Message("user", "Hi"), Message("assistant", "42", reasoning="hm"), Message("user", "Go")],
        GenerationOptions(history="keep"),
    )
    for answer in (
        {"reasoning": "hm", "content": "42"},
        {"reasoning_content": "hm", "content": "42"},
        {"reasoning_content": "hm", "reasoning": "hm", "content": [{"type": "text", "text": "42"}]},
        {"content": "<think>\nhm\n</think>\n42"},
    ):
        messages = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", **answer},
            {"role": "user", "content": "Go"},
        ]
        got = client.chat.completions.create(
            model=name,
            messages=[],
            max_tokens=1,
            extra_body={"messages": messages, "reasoning_history": "keep"},
        )
        assert got.usage is not None
        assert got.usage.prompt_tokens == expected


def test_an_answer_goes_back_into_the_next_turn_as_the_client_dumps_it(
    client: openai.OpenAI, name: str
) -> None:
    got = client.chat.completions.create(model=name, messages=ASKED, temperature=0)
    history = [*ASKED, got.choices[0].message.model_dump(), {"role": "user", "content": "Thanks"}]
    more = client.chat.completions.create(
        model=name, messages=[], max_tokens=2, extra_body={"messages": history}
    )
    assert more.choices[0].finish_reason == "length"


def test_logprobs_are_those_of_the_content(
    client: openai.OpenAI, name: str, reply: magistral_mlx.Reply
) -> None:
    got = client.chat.completions.create(
        model=name, messages=ASKED, temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = got.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    text = b"".join(bytes(one.bytes or []) for one in logprobs.content)
    assert text.decode() == reply.answer
    for one in logprobs.content[:-1]:
        assert one.top_logprobs[0].token == one.token  # greedy
        assert one.top_logprobs[0].logprob == pytest.approx(one.logprob)
        assert len(one.top_logprobs) == 3
        assert one.logprob <= 0


def test_stop_strings_penalties_biases_and_limits_reach_the_engine(
    client: openai.OpenAI, name: str, reply: magistral_mlx.Reply
) -> None:
    cut = client.chat.completions.create(
        model=name, messages=ASKED, temperature=0, stop=["12 +"], logit_bias={"1000": -5}
    )
    assert cut.choices[0].message.content == reply.answer.partition("12 +")[0]
    assert extra(cut.choices[0], "stop_reason") == "12 +"
    short = client.chat.completions.create(
        model=name, messages=ASKED, temperature=0, max_completion_tokens=5
    )
    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None
    assert short.usage.completion_tokens == 5
    penalised = client.chat.completions.create(
        model=name,
        messages=ASKED,
        temperature=0,
        presence_penalty=2,
        frequency_penalty=2,
        max_tokens=40,
        extra_body={"top_k": 50, "min_p": 0.01, "repetition_penalty": 1.5},
    )
    assert choice_text(penalised, 0) != (reply.reasoning + reply.answer)[:40]


def test_more_tokens_than_the_window_holds_are_clamped(
    client: openai.OpenAI, name: str, reply: magistral_mlx.Reply
) -> None:
    got = client.chat.completions.create(
        model=name, messages=ASKED, temperature=0, max_tokens=10_000_000
    )
    assert got.choices[0].message.content == reply.answer


def test_the_system_message_is_composed_into_the_default_prompt(
    client: openai.OpenAI, name: str, model: Magistral
) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "Hi"},
    ]
    turns = [Message("system", "Be kind."), Message("user", "Hi")]
    for policy in ("compose", "replace"):
        got = client.chat.completions.create(
            model=name, messages=messages, max_tokens=1, extra_body={"system_prompt": policy}
        )
        expected = model.prompt_tokens(
            turns, GenerationOptions(system="compose" if policy == "compose" else "replace")
        )
        assert got.usage is not None
        assert got.usage.prompt_tokens == expected


def test_json_schemas_are_kept_whole_and_streamed(client: openai.OpenAI, name: str) -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"sum": {"type": "integer"}, "ok": {"type": "boolean"}},
        "required": ["sum", "ok"],
        "additionalProperties": False,
    }
    got = client.chat.completions.create(
        model=name,
        messages=ASKED,
        temperature=1.5,
        seed=3,
        reasoning_effort="none",
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "sum", "schema": schema, "strict": True},
        },
    )
    value = json.loads(got.choices[0].message.content or "")
    assert isinstance(value["sum"], int)
    assert isinstance(value["ok"], bool)
    chunks = client.chat.completions.create(
        model=name,
        messages=ASKED,
        temperature=0,
        max_tokens=200,
        reasoning_effort="none",
        stream=True,
        response_format={"type": "json_object"},
        extra_body={"logit_bias": {}},
    )
    assert isinstance(json.loads(streamed(list(chunks), "content")), dict)


def test_the_history_without_its_reasoning_is_prefilled_while_the_user_reads(
    client: openai.OpenAI, name: str, model: Magistral, steps: list[StepReport]
) -> None:
    asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is 61 + 27?"}]
    before = len(steps)
    first = client.chat.completions.create(model=name, messages=asked, temperature=0)
    assert first.usage is not None
    wait_for(lambda: was_prefilled_after_an_answer(steps[before:]))
    wait_for(lambda: model.status.running == 0)
    text = first.choices[0].message.content or ""
    again = client.chat.completions.create(
        model=name,
        messages=[
            *asked,
            {"role": "assistant", "content": text},
            {"role": "user", "content": "And 5 more?"},
        ],
        max_tokens=2,
    )
    assert again.usage is not None
    assert again.usage.prompt_tokens_details is not None
    cached = again.usage.prompt_tokens_details.cached_tokens or 0
    assert cached >= first.usage.prompt_tokens + len(model.tokenizer.encode(text)) - 2


def was_prefilled_after_an_answer(steps: list[StepReport]) -> bool:
    """A history of a few tokens takes one step; those before the answer are of an earlier test."""
    answering = [number for number, step in enumerate(steps) if step.running]
    return bool(answering) and any(step.prefill_tokens for step in steps[answering[-1] + 1 :])


def test_the_async_client_has_every_feature(server: RunningServer, name: str) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {}, "additionalProperties": False}

    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=server.v1, api_key="x", max_retries=0) as client:
            assert [model.id async for model in client.models.list()] == [name]
            several = await client.chat.completions.create(
                model=name, messages=ASKED, n=2, seed=1, max_tokens=3, logprobs=True
            )
            assert [choice.finish_reason for choice in several.choices] == ["length", "length"]
            called = await client.chat.completions.create(
                model=name,
                messages=ASKED,
                reasoning_effort="none",
                tool_choice="required",
                parallel_tool_calls=False,
                tools=[
                    {
                        "type": "function",
                        "function": {"name": "f", "parameters": schema, "strict": True},
                    }
                ],
            )
            assert called.choices[0].finish_reason == "tool_calls"
            held = await client.chat.completions.create(
                model=name,
                messages=ASKED,
                reasoning_effort="none",
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": schema},
                },
            )
            assert json.loads(held.choices[0].message.content or "") == {}
            completed = await client.completions.create(model=name, prompt="1 + 1 =", max_tokens=2)
            assert completed.choices[0].finish_reason == "length"
            async with client.responses.stream(
                model=name, input=QUESTION, reasoning={"effort": "none"}, max_output_tokens=3
            ) as stream:
                kinds = [event.type async for event in stream]
            assert kinds[-1] == "response.incomplete"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("nothing")

    asyncio.run(run())


def choice_text(got: ChatCompletion, index: int) -> str:
    message = got.choices[index].message
    return str((message.model_extra or {}).get("reasoning", "")) + (message.content or "")


def streamed(chunks: list[ChatCompletionChunk], field: str) -> str:
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    return "".join(delta.model_dump().get(field) or "" for delta in deltas)
