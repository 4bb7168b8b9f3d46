"""POST /v1/messages and /v1/messages/count_tokens, for Anthropic's clients."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from hashlib import sha256

from anthropic import types
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from magistral_mlx.events import (
    AnswerText,
    Event,
    Finished,
    ReasoningText,
    ToolCallArguments,
    ToolCallBegin,
    ToolCallEnd,
)
from magistral_mlx.reply import Reply
from magistral_mlx.server.answering.errors import ANTHROPIC_ERRORS
from magistral_mlx.server.answering.model_slot import model_names
from magistral_mlx.server.answering.running import RunningAnswers
from magistral_mlx.server.answering.sending import (
    STREAMED,
    AnswerStreamResponse,
    Fields,
    ModelResponse,
    StreamFormat,
    sse,
)
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.anthropic.message_request import CountRequest, Display, MessageRequest
from magistral_mlx.server.layers.body import JsonRoute


def message_routes(service: Service) -> APIRouter:
    """Anthropic's interface."""
    router = APIRouter(route_class=JsonRoute, responses={**ANTHROPIC_ERRORS}, tags=["Anthropic"])

    @router.post("/v1/messages", response_model=types.Message, responses={**STREAMED})
    async def create_message(asked: MessageRequest, http: Request) -> Response:
        """Continue a conversation; the answer comes whole or as a stream of events."""
        user = None if asked.metadata is None else asked.metadata.user_id
        service.accept(http, asked, model=asked.model, user=user, prompt="messages")
        service.check_messages(len(asked.messages))
        answers = await service.begin_chat(http, asked.conversation(), asked.generation_options())
        head = {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": model_names(answers.model)[0],
        }
        if asked.stream:
            return AnswerStreamResponse(MessageStream(head, answers, asked))
        [reply] = await answers.replies(http)
        stop = _stop_fields(reply.end, called=bool(reply.tool_calls), limit=asked.max_tokens)
        body = {"content": _blocks(reply, asked.display), **stop, "usage": _usage(reply.end)}
        return ModelResponse(types.Message.model_validate({**head, **body}))

    @router.post("/v1/messages/count_tokens", response_model=types.MessageTokensCount)
    async def count_tokens(asked: CountRequest) -> Response:
        """Count the tokens of the prompt."""
        service.slot.check_name(asked.model)
        service.check_messages(len(asked.messages))
        model = service.slot.get()
        count = await asyncio.to_thread(
            model.prompt_tokens, asked.conversation(), asked.prompt_options()
        )
        return ModelResponse(types.MessageTokensCount(input_tokens=count))

    return router


def _blocks(reply: Reply, display: Display) -> list[Fields]:
    blocks: list[Fields] = []
    if reply.reasoning:
        shown = reply.reasoning if display == "summarized" else ""
        signature = sha256(reply.reasoning.encode()).hexdigest()[:32]
        blocks.append({"type": "thinking", "thinking": shown, "signature": signature})
    if reply.answer or not reply.tool_calls:
        blocks.append({"type": "text", "text": reply.answer, "citations": None})
    for call in reply.tool_calls:
        arguments = json.loads(call.arguments)
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments})
    return blocks


PING = 'event: ping\ndata: {"type": "ping"}\n\n'


class MessageStream(StreamFormat):
    """Writes events as blocks: another kind of text begins a block, and so does each call."""

    keep_alive = PING
    error_name = "error"

    def __init__(self, head: Fields, answers: RunningAnswers, asked: MessageRequest) -> None:
        self._head = head
        super().__init__(answers)
        self._asked = asked
        self._index = -1
        self._kind: str | None = None  # of the open block
        self._thinking = sha256()

    def begin(self) -> Iterator[str]:
        # How much of the prompt was cached is known at the end, and in the last event.
        usage = {"input_tokens": self.answers.prompt_tokens, "output_tokens": 0}
        empty: Fields = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        message = {**self._head, **empty}
        yield _sse(types.RawMessageStartEvent, {"type": "message_start", "message": message})
        yield PING

    def write(self, choice: int, event: Event) -> Iterator[str]:
        match event:
            case ReasoningText(text):
                if self._kind != "thinking":
                    yield from self._open("thinking", {"thinking": "", "signature": ""})
                self._thinking.update(text.encode())
                if self._asked.display == "summarized":
                    yield self._delta({"type": "thinking_delta", "thinking": text})
            case AnswerText(text):
                if self._kind != "text":
                    yield from self._open("text", {"text": "", "citations": None})
                yield self._delta({"type": "text_delta", "text": text})
            case ToolCallBegin(_, call_id, name):
                yield from self._open("tool_use", {"id": call_id, "name": name, "input": {}})
            case ToolCallArguments(_, text):
                yield self._delta({"type": "input_json_delta", "partial_json": text})
            case ToolCallEnd():
                yield from self._close()
            case Finished():
                yield from self._finish(event)

    def end(self) -> Iterator[str]:
        yield _sse(types.RawMessageStopEvent, {"type": "message_stop"})

    def _open(self, kind: str, fields: Fields) -> Iterator[str]:
        yield from self._close()
        self._index += 1
        self._kind = kind
        block = {"type": kind, **fields}
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        yield _sse(types.RawContentBlockStartEvent, start)

    def _close(self) -> Iterator[str]:
        if self._kind is None:
            return
        if self._kind == "thinking":
            signature = self._thinking.hexdigest()[:32]
            yield self._delta({"type": "signature_delta", "signature": signature})
        self._kind = None
        yield _sse(
            types.RawContentBlockStopEvent, {"type": "content_block_stop", "index": self._index}
        )

    def _delta(self, delta: Fields) -> str:
        fields = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return _sse(types.RawContentBlockDeltaEvent, fields)

    def _finish(self, end: Finished) -> Iterator[str]:
        if self._index < 0:
            yield from self._open("text", {"text": "", "citations": None})
        yield from self._close()
        called = self.answers.builders[0].has_calls
        fields = {
            "type": "message_delta",
            "delta": _stop_fields(end, called=called, limit=self._asked.max_tokens),
            "usage": _usage(end),
        }
        yield _sse(types.RawMessageDeltaEvent, fields)


def _usage(end: Finished) -> Fields:
    """Token counts; Anthropic counts cached tokens of the prompt apart from the others."""
    usage = end.usage
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _stop_fields(end: Finished, *, called: bool, limit: int) -> Fields:
    """stop_reason and stop_sequence. limit: the requested max_tokens."""
    if end.reason == "length" and end.usage.completion_tokens < limit:
        reason = "model_context_window_exceeded"
    elif end.reason in ("length", "timeout"):
        reason = "max_tokens"
    elif end.stop_string is not None:
        reason = "stop_sequence"
    else:
        reason = "tool_use" if called else "end_turn"
    return {"stop_reason": reason, "stop_sequence": end.stop_string}


def _sse(event: type[BaseModel], fields: Fields) -> str:
    return sse(event.model_validate(fields), name=str(fields["type"]))
