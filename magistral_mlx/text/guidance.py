"""Grammars that an answer must follow, by llguidance: JSON schema, regular expression, Lark, tools.

Reasoning stays free: a grammar around the answer's own lets anything be thought up to the closing
tag. It works on bytes, as the splitter does, so a token that closes the reasoning and goes on with
the answer is held to both.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher
from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.instruct.messages import ChatMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import NamedToolChoice, Tool, ToolChoiceEnum
from numpy.typing import NDArray
from pydantic import ValidationError

from magistral_mlx.errors import RequestError
from magistral_mlx.spec import HUB_ID, THINK_CLOSE, THINK_OPEN
from magistral_mlx.text.reasoning import OutputState
from magistral_mlx.text.tokenizer import Tokenizer

_JSON_SPACE = r" |\n{1,2}[ \t]{0,20}"
"""Between the parts of JSON. Where more is allowed, models fill pages with it."""

_AUTO = "start: content | content? fcalls"
_CONTENT = r"content: (/(.|\n)+/)+"
_TOOL_ANSWER = f"""\
{{% if mode == "required" %}}start: fcalls
{{% elif mode == "none" %}}start: content
{{% else %}}{_AUTO}
{{% endif %}}
{{% if mode != "none" %}}fcalls: {{{{ fcall }}}}
{{% endif %}}
{_CONTENT}
SAFE_WS: /[ \\t\\r\\n]{{1,8}}/
"""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """An answer that is JSON and fits a schema; {"type": "object"} for any object.

    White space in it is at most one blank, or a new line and its indent. Keywords that llguidance
    does not know are refused, never ignored.
    """

    schema: Mapping[str, object] | bool


@dataclass(frozen=True, slots=True)
class Regex:
    """An answer that matches a whole regular expression, in Rust's syntax."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Lark:
    """An answer that follows a grammar in llguidance's form of Lark; it begins with `start`."""

    grammar: str


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Calls that fit their tools, in mistral-common's grammar for the tokenizer's version.

    Every call is of one of the tools, with a JSON object as its arguments; those of strict tools
    fit their parameters' schema. With the choice "auto" there may be text before or instead of
    calls, or, where `answer` is given, JSON of that schema instead of calls.
    """

    tools: tuple[Tool, ...]
    choice: ToolChoiceEnum | NamedToolChoice = ToolChoiceEnum.auto
    parallel: bool = True
    answer: JsonSchema | None = None


Guidance = JsonSchema | Regex | Lark | ToolCalls


class GuidanceError(RuntimeError):
    """A grammar that can be followed no further, say because it has become too complex."""


class GrammarMatcher:
    """Follows one output through its grammar."""

    def __init__(self, matcher: LLMatcher, reasoning: LLMatcher) -> None:
        """Use `open_matcher`; `reasoning` is at the beginning of reasoning."""
        self._matcher = matcher
        self._reasoning = reasoning

    @property
    def ended(self) -> bool:
        """Whether nothing but the end token may follow."""
        return self._matcher.is_stopped()

    def allowed(self, vocab: int) -> NDArray[np.bool_]:
        """Which of so many tokens may come next; at least one. Raises GuidanceError."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        bits = np.unpackbits(mask, bitorder="little")[:vocab]
        return np.pad(bits, (0, vocab - len(bits))).view(np.bool_)

    def take(self, token: int) -> None:
        """The output has one more token. Raises GuidanceError when it may not have."""
        self._matcher.consume_token(token)
        self._check()

    def forget_reasoning(self) -> None:
        """Let the reasoning be closed by force, even in the middle of a character."""
        self._matcher = self._reasoning

    def forced(self) -> list[int]:
        """The tokens that must come next, whatever the model thinks."""
        return [] if self.ended else self._matcher.compute_ff_tokens()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GuidanceError(_reason(self._matcher))


def open_matcher(guidance: Guidance, tokenizer: Tokenizer, state: OutputState) -> GrammarMatcher:
    """The grammar of an output that begins in a state, compiled.

    Raises RequestError when it is malformed, or no answer fits it.
    """
    answer = _answer(guidance, tokenizer)
    # Behind reasoning that goes on, nothing would show that no answer can begin.
    _compile([answer], tokenizer)
    answer |= {"name": "answer"}
    return GrammarMatcher(
        _compile([_around(tokenizer, state), answer], tokenizer),
        _compile([_around(tokenizer, "reasoning"), answer], tokenizer),
    )


def _compile(grammars: Sequence[Mapping[str, object]], tokenizer: Tokenizer) -> LLMatcher:
    vocabulary = tokenizer.grammar_vocabulary
    matcher = LLMatcher(vocabulary, json.dumps({"grammars": grammars}), log_level=0)
    matcher.compute_bitmask()
    if matcher.is_error():
        raise RequestError(f"The grammar cannot be used: {_reason(matcher)}.")
    return matcher


def _around(tokenizer: Tokenizer, state: OutputState) -> dict[str, object]:
    """The grammar of a whole output. What it lets pass around the tags, OutputParser drops."""
    if tokenizer.has_think_control:
        opening = f"<[{tokenizer.think_open_id}]>"
        thoughts = f"thoughts: /(?s:.+)/? <[{tokenizer.think_close_id}]>"
    else:
        opening = json.dumps(THINK_OPEN)
        thoughts = f"thoughts[suffix={json.dumps(THINK_CLOSE)}]: /(?s:.*)/"
    start = {
        "auto": f"(SPACE? {opening} thoughts NEWLINES?)? @answer",
        "reasoning": "thoughts NEWLINES? @answer",
        "answer": "@answer",
    }[state]
    rules = [f"start: {start}"]
    if state != "answer":
        rules += [thoughts, r"NEWLINES: /\n{1,3}/", r"SPACE: /[ \t\r\n]{1,8}/"]
    return {"lark_grammar": "\n".join(rules)}


def _answer(guidance: Guidance, tokenizer: Tokenizer) -> dict[str, object]:
    """The grammar of the answer, as llguidance takes it."""
    match guidance:
        case JsonSchema(schema):
            return {"json_schema": _json_schema(schema)}
        case Regex(pattern):
            grammar = json.loads(LLMatcher.grammar_from_regex(pattern))["grammars"][0]
            return {"lark_grammar": grammar["lark_grammar"]}
        case Lark(grammar):
            return {"lark_grammar": grammar}
        case ToolCalls():
            return {"lark_grammar": _tool_grammar(guidance, tokenizer)}


def _json_schema(schema: Mapping[str, object] | bool) -> object:
    if schema is False:
        return False
    try:
        plain = {} if schema is True else json.loads(json.dumps(dict(schema)))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"The JSON schema cannot be written as JSON: {_one_line(str(error))}."
        raise RequestError(message) from error
    return {"x-guidance": {"whitespace_pattern": _JSON_SPACE}} | plain


def _tool_grammar(guidance: ToolCalls, tokenizer: Tokenizer) -> str:
    try:
        request = ChatCompletionRequest[ChatMessage](
            model=HUB_ID,
            messages=[UserMessage(content="")],
            tools=[_pinned(tool) for tool in guidance.tools],
            tool_choice=guidance.choice,
            parallel_tool_calls=guidance.parallel,
        )
        factory = tokenizer.grammar_factory
        grammar = factory.get_grammar_for_chat_request(request, _TOOL_ANSWER)
    except (MistralCommonException, ValidationError, ValueError) as error:
        raise RequestError(f"The tool calls cannot be guided: {_one_line(str(error))}.") from error
    if grammar is None:
        raise RequestError("The tool calls cannot be guided: give at least one tool.")
    if guidance.answer is None:
        return grammar
    schema = json.dumps(_json_schema(guidance.answer.schema))
    grammar = grammar.replace(_AUTO, "start: content | fcalls")
    return grammar.replace(_CONTENT, f"content: %json {schema}")


def _pinned(tool: Tool) -> Tool:
    """The tool as a strict one: mistral-common lets a call of any other have any name."""
    function = tool.function
    schema = function.parameters if function.strict else {"type": "object"}
    pinned = {"strict": True, "parameters": _json_schema(schema)}
    return Tool(function=function.model_copy(update=pinned))


def _reason(matcher: LLMatcher) -> str:
    error = matcher.get_error()
    if error.startswith("NoExtension"):
        return "nothing fits it"
    return _one_line(error.partition("<state>")[0])


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
