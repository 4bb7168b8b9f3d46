"""Conversations as the model sees them: messages to prompt ids."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from mistral_common.protocol.instruct.chunk import ContentChunk, TextChunk, ThinkChunk
from mistral_common.protocol.instruct.messages import (
    AssistantMessage,
    ChatMessage,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import FunctionCall, Tool
from mistral_common.protocol.instruct.tool_calls import ToolCall as MistralToolCall
from pydantic import ValidationError

from magistral_mlx.errors import RequestError
from magistral_mlx.spec import HUB_ID, THINK_CLOSE, THINK_OPEN
from magistral_mlx.text.reasoning import OutputState, split_reasoning
from magistral_mlx.text.system_prompt import compose_system, split_default
from magistral_mlx.text.tokenizer import Tokenizer, refused

Role = Literal["system", "user", "assistant", "tool"]
Reasoning = Literal["auto", "on", "off"]
History = Literal["keep", "drop"]
SystemPolicy = Literal["compose", "replace"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant made; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `reasoning` and `tool_calls` are for the assistant, `tool_call_id` for a tool.

    An assistant's content may also hold its reasoning, as a "<think>" block at the start.
    """

    role: Role
    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """Prompt ids, and the state in which the output after them begins (for OutputSplitter)."""

    ids: list[int]
    state: OutputState


def build_prompt(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    reasoning: Reasoning = "auto",
    history: History = "drop",
    system: SystemPolicy = "compose",
    tools: Sequence[Tool] = (),
) -> Prompt:
    """Encode a conversation with mistral-common.

    reasoning: "auto" lets the model open its reasoning; "on" opens it at the end of the prompt;
        "off" leaves the thinking template out of the default system prompt and ends the prompt
        with reasoning that is empty and closed.
    history: "keep" gives earlier answers with their reasoning, "drop" without. The reasoning
        after the last user message is always kept: it belongs to the task in progress, in which
        tools are called, and the model needs it to continue.
    system: "compose" puts the first system messages into the default prompt (system_prompt.py);
        "replace" uses them as they are, or no system prompt.
    tools: the tools that the model may call.

    If the last message is the assistant's, the model continues it: its answer or, if it has only
    reasoning, that reasoning ("off" closes it first). Empty assistant messages, for example of
    answers cut off while reasoning, are left out.

    Raises RequestError for messages that mistral-common or this function refuses.
    """
    _check_choices(reasoning, history, system)
    reasoning = _possible(tokenizer, reasoning)
    if not messages:
        raise RequestError("There are no messages: give at least one user message.")
    turns = [_turn(message) for message in messages]
    beginning = _beginning(turns, reasoning)
    earlier = turns[:-1] if turns[-1].message.role == "assistant" else turns
    try:
        chat = _system_messages(tokenizer, turns, reasoning, system)
        chat += _earlier_messages(tokenizer, earlier, history)
        if beginning is not None:
            chat.append(_assistant(tokenizer, beginning, prefix=True))
        request = ChatCompletionRequest[ChatMessage](
            model=HUB_ID, messages=chat, tools=list(tools) or None
        )
    except ValidationError as error:
        raise refused(error) from error
    return _ended(tokenizer, tokenizer.encode_chat(request), beginning, reasoning)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message, its reasoning split off. closed: False if the reasoning continues."""

    message: Message
    closed: bool = True


def _check_choices(reasoning: str, history: str, system: str) -> None:
    choices = (
        ("reasoning", reasoning, get_args(Reasoning)),
        ("history", history, get_args(History)),
        ("system", system, get_args(SystemPolicy)),
    )
    for name, value, allowed in choices:
        if value not in allowed:
            raise RequestError(f"{name}={value!r} is unknown: use one of {', '.join(allowed)}.")


def _possible(tokenizer: Tokenizer, reasoning: Reasoning) -> Reasoning:
    """The choice for this model: one without reasoning has none to open or close."""
    if tokenizer.has_reasoning:
        return reasoning
    if reasoning == "on":
        raise RequestError("This model's chat template has no reasoning: leave out reasoning='on'.")
    return "auto"


def _turn(message: Message) -> _Turn:
    if message.role not in get_args(Role):
        known = ", ".join(get_args(Role))
        raise RequestError(f"The role {message.role!r} is unknown: use one of {known}.")
    if not isinstance(message.content, str):
        raise RequestError(f"A message's content is text, not {message.content!r}.")
    if message.role != "assistant" and (message.reasoning or message.tool_calls):
        raise RequestError(f"Only an assistant has reasoning or tool calls, not a {message.role}.")
    if message.role != "tool" and message.tool_call_id is not None:
        raise RequestError(f"Only a tool's message has a tool_call_id, not a {message.role}'s.")
    if message.role != "assistant":
        return _Turn(message)
    if message.reasoning:
        return _Turn(message, closed=bool(message.content or message.tool_calls))
    split = split_reasoning(message.content)
    return _Turn(replace(message, content=split.answer, reasoning=split.reasoning), split.closed)


def _beginning(turns: Sequence[_Turn], reasoning: Reasoning) -> _Turn | None:
    """The last message, if it is an assistant's, which the model then continues."""
    last = turns[-1]
    if last.message.role != "assistant" or _is_empty(last.message):
        return None
    if reasoning == "off":
        closed = replace(last.message, reasoning=last.message.reasoning or "")
        return _Turn(closed)
    if reasoning == "on" and last.message.reasoning is None:
        raise RequestError(
            "The last message already begins the answer, so reasoning='on' comes too late: "
            "use reasoning='off', or give that message its reasoning."
        )
    return last


def _system_messages(
    tokenizer: Tokenizer, turns: Sequence[_Turn], reasoning: Reasoning, system: SystemPolicy
) -> list[ChatMessage]:
    texts = [turn.message.content for turn in turns[: _leading_systems(turns)]]
    if system == "replace" or not tokenizer.is_magistral:
        return [SystemMessage(content=text) for text in texts if text.strip()]
    prompt = compose_system(texts, template=reasoning != "off")
    parts = split_default(prompt) if tokenizer.has_think_control else None
    if parts is None:
        return [SystemMessage(content=prompt)]
    before, thoughts, after = parts
    return [
        SystemMessage(
            content=[TextChunk(text=before), ThinkChunk(thinking=thoughts), TextChunk(text=after)]
        )
    ]


def _leading_systems(turns: Sequence[_Turn]) -> int:
    roles = [turn.message.role for turn in turns]
    return next((index for index, role in enumerate(roles) if role != "system"), len(roles))


def _earlier_messages(
    tokenizer: Tokenizer, turns: Sequence[_Turn], history: History
) -> list[ChatMessage]:
    users = [index for index, turn in enumerate(turns) if turn.message.role == "user"]
    chat: list[ChatMessage] = []
    for index in range(_leading_systems(turns), len(turns)):
        message = turns[index].message
        if history == "drop" and users and index < users[-1]:
            message = replace(message, reasoning=None)
        if message.role == "assistant" and not _is_empty(message):
            chat.append(_assistant(tokenizer, _Turn(message), prefix=False))
        elif message.role != "assistant":
            chat.append(_other(tokenizer, message))
    return chat


def _is_empty(message: Message) -> bool:
    return not message.content and message.reasoning is None and not message.tool_calls


def _other(tokenizer: Tokenizer, message: Message) -> ChatMessage:
    if message.role == "tool":
        call_id = message.tool_call_id and _call_id(tokenizer, message.tool_call_id)
        return ToolMessage(content=message.content, tool_call_id=call_id)
    if message.role == "system":
        return SystemMessage(content=message.content)
    return UserMessage(content=message.content)


def _assistant(tokenizer: Tokenizer, turn: _Turn, *, prefix: bool) -> AssistantMessage:
    message = turn.message
    calls = [
        MistralToolCall(
            id=_call_id(tokenizer, call.id),
            function=FunctionCall(name=call.name, arguments=call.arguments),
        )
        for call in message.tool_calls
    ]
    content = _assistant_content(tokenizer, message, closed=turn.closed)
    return AssistantMessage(content=content or None, tool_calls=calls or None, prefix=prefix)


def _assistant_content(
    tokenizer: Tokenizer, message: Message, *, closed: bool
) -> str | list[ContentChunk]:
    thought = message.reasoning
    if thought is None:
        return message.content
    if tokenizer.has_think_control:
        answer = [TextChunk(text=message.content)] if message.content else []
        return [ThinkChunk(thinking=thought, closed=closed), *answer]
    if not closed:
        return f"{THINK_OPEN}\n{thought}"
    return f"{THINK_OPEN}\n{thought}\n{THINK_CLOSE}\n{message.content}"


def _call_id(tokenizer: Tokenizer, call_id: str) -> str:
    """The id of a tool call as v11 writes it into prompts: nine letters or digits.

    Ids of another form (from another model) are replaced, always by the same id.
    """
    if tokenizer.version != "v11" or not call_id or re.fullmatch(r"[a-zA-Z0-9]{9}", call_id):
        return call_id
    return hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:9]


def _ended(
    tokenizer: Tokenizer, ids: list[int], beginning: _Turn | None, reasoning: Reasoning
) -> Prompt:
    if not tokenizer.has_reasoning:
        return Prompt(ids, "answer")
    if beginning is not None:
        return Prompt(ids, "answer" if beginning.closed else "reasoning")
    if reasoning == "on":
        return Prompt(ids + tokenizer.think_open_ids, "reasoning")
    if reasoning == "off":
        return Prompt(ids + tokenizer.think_empty_ids, "answer")
    return Prompt(ids, "auto")
