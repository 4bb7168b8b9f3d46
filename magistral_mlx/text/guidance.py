"""Grammars that an answer must follow, by llguidance: JSON schema, regular expression, Lark, tools.

Reasoning stays free: a grammar around that of the answer allows any text up to the closing tag. It
works on bytes, as the splitter does, so a token may close the reasoning and begin the answer.
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
"""White space between the parts of JSON. If more is allowed, models fill pages with it."""

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

    White space between its parts is at most one blank, or a line break and its indent. Keywords
    that llguidance does not know are refused, not ignored.
    """

    schema: Mapping[str, object] | bool


@dataclass(frozen=True, slots=True)
class Regex:
    """An answer that matches a whole regular expression, in Rust's syntax."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Lark:
    """An answer that follows a grammar in llguidance's form of Lark, from its rule `start`."""

    grammar: str


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Tool calls, in mistral-common's grammar for the tokenizer's version.

    Every call is of one of the tools, and its arguments are a JSON object; those of strict tools
    fit the schema of their parameters. With the choice "auto" there may be text before or instead
    of calls or, if `answer` is given, JSON of that schema instead of calls.
    """

    tools: tuple[Tool, ...]
    choice: ToolChoiceEnum | NamedToolChoice = ToolChoiceEnum.auto
    parallel: bool = True
    answer: JsonSchema | None = None


Guidance = JsonSchema | Regex | Lark | ToolCalls


class GuidanceError(RuntimeError):
    """A grammar cannot be followed any further, for example because it is too complex."""


class GrammarMatcher:
    """Follows one output through its grammar."""

    def __init__(self, matcher: LLMatcher, reasoning: LLMatcher) -> None:
        """Use `open_matcher`. reasoning: a matcher at the beginning of the reasoning."""
        self._matcher = matcher
        self._reasoning = reasoning

    @property
    def ended(self) -> bool:
        """Whether only the end token may follow."""
        return self._matcher.is_stopped()

    def allowed(self, vocab: int) -> NDArray[np.bool_]:
        """Which of `vocab` tokens may come next; at least one. Raises GuidanceError."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        bits = np.unpackbits(mask, bitorder="little")[:vocab]
        return np.pad(bits, (0, vocab - len(bits))).view(np.bool_)

    def take(self, token: int) -> None:
        """Add a token of the output. Raises GuidanceError if the grammar does not allow it."""
        self._matcher.consume_token(token)
        self._check()

    def forget_reasoning(self) -> None:
        """Allow the reasoning to be closed by force, even in the middle of a character."""
        self._matcher = self._reasoning

    def forced(self) -> list[int]:
        """The tokens that the grammar forces next."""
        return [] if self.ended else self._matcher.compute_ff_tokens()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GuidanceError(_reason(self._matcher))


def open_matcher(guidance: Guidance, tokenizer: Tokenizer, state: OutputState) -> GrammarMatcher:
    """Compile the grammar of an output that begins in a state.

    Raises RequestError if it is malformed or no answer fits it.
    """
    answer = _answer(guidance, tokenizer)
    # Compiled alone too: with reasoning before it, an answer that cannot begin goes unnoticed.
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
    """The grammar of a whole output. OutputSplitter drops the white space around the tags."""
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
    """The tool as a strict one: mistral-common allows any name for calls of other tools."""
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
