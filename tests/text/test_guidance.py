"""Grammars: every answer fits, whatever a random model would rather say; reasoning stays free."""

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from mistral_common.protocol.instruct.tool_calls import (
    Function,
    FunctionName,
    NamedToolChoice,
    Tool,
    ToolChoiceEnum,
)

import magistral_mlx.engine.loop
from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.step import dispatch
from magistral_mlx.errors import RequestError
from magistral_mlx.events import Failed
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.guidance import (
    GrammarMatcher,
    Guidance,
    GuidanceError,
    JsonSchema,
    Lark,
    Regex,
    ToolCalls,
    open_matcher,
)
from magistral_mlx.text.reasoning import OutputState
from magistral_mlx.text.tokenizer import Tokenizer
from tests.text.token_streams import OutputParser
from tests.tiny_engine import prompt, run, with_options

HOT = SamplingParams(temperature=5, top_p=1, seed=1)

PERSON: dict[str, object] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "ä"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
SCHEMAS: list[Mapping[str, object]] = [
    PERSON,
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 5},
    {"enum": ["yes", "no", 7, None, {"deep": [1]}]},
    {"type": "number", "minimum": -1, "maximum": 1},
    {
        "$defs": {"leaf": {"type": "object", "properties": {"n": {"type": "integer"}},
                           "required": ["n"], "additionalProperties": False}},
        "anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "string", "pattern": "^[a-f]{3}-[0-9]{2}$"}],
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Iterator[Engine]:
    engine = Engine(checkpoint, tokenizer, window=1500, max_running=8, prefill_tokens=16)
    yield engine
    engine.close()


def guided(guidance: Guidance, *, seed: int = 0, state: OutputState = "answer") -> Request:
    sampling = replace(HOT, seed=seed)
    return Request(
        prompt(9, seed=seed),
        state=state,
        options=OutputOptions(sampling=sampling, guidance=guidance),
    )


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_every_answer_is_json_that_fits_the_schema(
    engine: Engine, schema: Mapping[str, object]
) -> None:
    outputs = run(engine, *(guided(JsonSchema(schema), seed=seed) for seed in range(8)))
    for output in outputs:
        assert output.end.reason == "stop"
        jsonschema.validate(json.loads(output.answer), schema)
    assert len({output.answer for output in outputs}) > 1


@pytest.mark.parametrize("pattern", [r"\d{3}/[a-f]+\.", r"(ja|nein){2,4}", "[α-ω]{3}\n?"])
def test_every_answer_matches_the_regular_expression(engine: Engine, pattern: str) -> None:
    for output in run(engine, *(guided(Regex(pattern), seed=seed) for seed in range(6))):
        assert output.end.reason == "stop"
        assert re.fullmatch(pattern, output.answer)


def test_every_answer_follows_the_lark_grammar(engine: Engine) -> None:
    lark = r"""
        start: sum
        sum: product (("+" | "-") product){0,3}
        product: NUMBER | "(" sum ")"
        NUMBER: /[1-9][0-9]{0,2}/
    """
    for output in run(engine, *(guided(Lark(lark), seed=seed) for seed in range(6))):
        assert output.end.reason == "stop"
        assert re.fullmatch(r"[0-9()+-]+", output.answer)
        assert isinstance(eval(output.answer, {"__builtins__": {}}), int)


def test_unguided_requests_of_the_batch_get_the_tokens_that_they_get_alone(engine: Engine) -> None:
    requests = [
        guided(JsonSchema(PERSON)),
        Request(
            prompt(50, seed=1),
            options=OutputOptions(sampling=SamplingParams(temperature=0), max_tokens=40),
        ),
        guided(Regex("[ab]{60}"), seed=2),
        Request(
            prompt(9, seed=3),
            options=OutputOptions(sampling=replace(HOT, frequency_penalty=1), max_tokens=40),
        ),
        Request(prompt(30, seed=4), options=OutputOptions(sampling=HOT, max_tokens=50)),
    ]
    alone = [run(engine, request)[0].tokens for request in requests]
    assert [output.tokens for output in run(engine, *requests)] == alone


@pytest.mark.parametrize("state", ["reasoning", "auto"])
def test_reasoning_stays_free_and_the_answer_behind_it_fits(
    engine: Engine, tokenizer: Tokenizer, state: OutputState
) -> None:
    begun = tuple(tokenizer.think_open_ids) if state == "reasoning" else ()
    asked = [guided(JsonSchema(PERSON), seed=seed, state=state) for seed in range(6)]
    asked = [
        replace(with_options(one, thinking_budget=25), prompt=one.prompt + begun) for one in asked
    ]
    # The vocabulary has few whole characters: reasoning is often closed in the middle of one.
    for output in run(engine, *asked):
        assert output.end.reason == "stop"
        jsonschema.validate(json.loads(output.answer), PERSON)
        thought = state == "reasoning" or b"<think>" in b"".join(
            map(tokenizer.token_bytes, output.tokens)
        )
        assert output.end.reasoning_closed_by_force == thought
        assert bool(output.reasoning) == thought


def test_what_the_grammar_forces_takes_one_step_and_not_one_for_each_token(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def counting(*args: object) -> object:
        steps.append(1)
        return dispatch(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(magistral_mlx.engine.loop, "dispatch", counting)
    text = "This sentence is so long that nobody would want to wait for all of it"
    asked = guided(Regex(f"[xy]{text}[xy]"))
    [output] = run(engine, asked)
    assert output.answer[1:-1] == text
    assert len(output.tokens) > 25
    assert len(steps) < 12
    steps.clear()
    [one_by_one] = run(engine, with_options(asked, logprobs=0))
    assert one_by_one.answer[1:-1] == text
    assert len(steps) >= len(one_by_one.tokens)
    assert b"".join(t.text for t in one_by_one.logprobs) == one_by_one.answer.encode()


def test_other_options_hold_inside_a_grammar(engine: Engine) -> None:
    asked = guided(Regex("[a-z]{0,30}(ENDE|FIN)"))
    biased = replace(asked.options.sampling, logit_bias={2: 100})
    [stopped, short, penalised] = run(
        engine,
        with_options(asked, stop=("ENDE", "FIN")),
        with_options(asked, max_tokens=3),
        guided(Regex("[ab]*"), seed=3),
    )
    assert stopped.end.stop_string in ("ENDE", "FIN")
    assert re.fullmatch("[a-z]{0,30}", stopped.answer)
    assert short.end.reason == "length"
    assert penalised.end.reason in ("stop", "length", "repetition")
    eager = with_options(guided(Regex("[ab]*")), sampling=biased)
    [at_once, later] = run(engine, eager, with_options(eager, min_tokens=6))
    assert len(at_once.tokens) == 1
    assert len(later.tokens) == 7
    [ended] = run(engine, with_options(guided(Regex("a")), min_tokens=50))
    assert (ended.answer, ended.end.reason) == ("a", "stop")


TOOLS = (
    Tool(function=Function(name="add", strict=True, parameters=dict(PERSON))),
    Tool(function=Function(name="now", strict=True, parameters={"type": "object", "properties": {},
                                                                "additionalProperties": False})),
)  # fmt: skip


def calls(tokenizer: Tokenizer, tokens: list[int]) -> list[tuple[str, object]]:
    """The tool calls among tokens, by their control tokens."""
    begin, middle = tokenizer.control_id("[TOOL_CALLS]"), tokenizer.control_id("[ARGS]")
    parts = [list[int]()]
    for token in tokens:
        if token == begin:
            parts.append([])
        parts[-1].append(token)
    found = []
    for part in parts[1:]:
        cut = part.index(middle) if middle is not None else -1
        name, arguments = tokenizer.decode(part[1:cut]), tokenizer.decode(part[cut + 1 :])
        found.append((name.strip(), json.loads(arguments)))
    return found


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (ToolChoiceEnum.required, {"add", "now"}),
        (NamedToolChoice(function=FunctionName(name="add")), {"add"}),
    ],
)
def test_tool_calls_fit_their_tools(
    engine: Engine, tokenizer: Tokenizer, choice: ToolChoiceEnum | NamedToolChoice, names: set[str]
) -> None:
    guidance = ToolCalls(TOOLS, choice, parallel=False)
    seen = set()
    for output in run(engine, *(guided(guidance, seed=seed) for seed in range(8))):
        assert output.end.reason == "stop"
        [(name, arguments)] = calls(tokenizer, output.tokens)
        schema = PERSON if name == "add" else {"type": "object", "maxProperties": 0}
        jsonschema.validate(arguments, schema)
        assert name in names
        seen.add(name)
    assert seen


@pytest.mark.parametrize("state", ["auto", "reasoning", "answer"])
@pytest.mark.parametrize("version", ["v11", "v13"])
def test_whatever_is_allowed_fits_in_every_state_of_both_tokenizers(
    tokenizer_v11: Tokenizer, tokenizer_v13: Tokenizer, version: str, state: OutputState
) -> None:
    tokenizer = tokenizer_v11 if version == "v11" else tokenizer_v13
    for seed in range(6):
        begun = tokenizer.think_open_ids if state == "auto" and seed % 2 else []
        split = walk(tokenizer, JsonSchema(PERSON), state, list(begun), random.Random(seed))
        jsonschema.validate(json.loads(split["answer"]), PERSON)
        assert bool(split["reasoning"]) == (state == "reasoning" or bool(begun))


def walk(
    tokenizer: Tokenizer,
    guidance: Guidance,
    state: OutputState,
    tokens: list[int],
    numbers: random.Random,
) -> dict[str, str]:
    """Any tokens that are allowed, after the ones given; after twelve the reasoning is closed."""
    matcher = open_matcher(guidance, tokenizer, state)
    parser = OutputParser(tokenizer, state=state)
    split = {"reasoning": "", "answer": ""}
    free = 0
    while not matcher.ended:
        if not tokens and parser.state == "reasoning" and free == 12:
            matcher.forget_reasoning()
            tokens = list(tokenizer.think_close_ids)
        if not tokens:
            allowed = np.flatnonzero(matcher.allowed(tokenizer.vocab_size)).tolist()
            if parser.state == "reasoning":
                assert len(allowed) > 100_000  # whatever it may think
                free += 1
            elif parser.state == "auto":
                brace = tokenizer.encode("{")
                assert set(brace) <= set(allowed)
                allowed = brace
            tokens = [numbers.choice(allowed)]
        token = tokens.pop(0)
        if token == tokenizer.eos_id:
            break
        matcher.take(token)
        for delta in parser.push_text(token):
            split[delta.kind] += delta.text
    for delta in parser.finish_text():
        split[delta.kind] += delta.text
    return split


@pytest.mark.parametrize("state", ["auto", "reasoning", "answer"])
@pytest.mark.parametrize(
    ("guidance", "reason"),
    [
        (JsonSchema({"type": "nope"}), "Invalid type: nope"),
        (JsonSchema({"type": "string", "minLength": 5, "maxLength": 2}), "Unsatisfiable schema"),
        (JsonSchema({"not": {"type": "string"}}), "Unimplemented keys"),
        (JsonSchema(False), "schema is false"),
        (JsonSchema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}), "nothing fits"),
        (JsonSchema({"const": {1, 2}}), "cannot be written as JSON"),
        (Regex("[0-"), "unclosed character class"),
        (Regex("(?=a)b"), "look-ahead"),
        (Regex(r"[^\s\S]"), "nothing fits it"),
        (Lark("start: A"), 'unknown name: "A"'),
        (Lark("begin: /a/"), "no start rule"),
        (ToolCalls(()), "give at least one tool"),
        (ToolCalls(TOOLS, NamedToolChoice(function=FunctionName(name="x"))), "`x` not found"),
    ],
    ids=str,
)
def test_a_grammar_that_cannot_be_used_is_refused_at_once(
    engine: Engine, guidance: Guidance, reason: str, state: OutputState
) -> None:
    with pytest.raises(RequestError, match=re.escape(reason)) as refusal:
        engine.submit(guided(guidance, state=state))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_a_grammar_and_an_ignored_end_token_are_refused() -> None:
    with pytest.raises(RequestError, match="choose one of the two"):
        with_options(guided(Regex("a")), ignore_eos=True)


@pytest.mark.parametrize("method", ["take", "allowed"])
def test_a_grammar_that_fails_on_its_way_ends_its_own_request_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    other = Request(prompt(9, seed=3), options=OutputOptions(sampling=HOT, max_tokens=40))
    [alone] = run(engine, other)

    def failing(*_: object) -> None:
        raise GuidanceError("too complex")

    monkeypatch.setattr(GrammarMatcher, method, failing)
    [broken, whole] = run(engine, guided(JsonSchema(PERSON)), other)
    assert isinstance(broken.events[-1], Failed)
    assert "too complex" in broken.events[-1].message
    assert whole.tokens == alone.tokens
