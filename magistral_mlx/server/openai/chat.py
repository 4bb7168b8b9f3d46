"""POST /v1/chat/completions."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi import APIRouter, Request
from fastapi.responses import Response
from openai.types.chat import ChatCompletion

from magistral_mlx.reply import Reply
from magistral_mlx.server.answering.json_response import ModelResponse
from magistral_mlx.server.answering.model_slot import model_names
from magistral_mlx.server.answering.sending import STREAMED, AnswerStreamResponse
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.errors import ERRORS, ApiError
from magistral_mlx.server.layers.records import record_of
from magistral_mlx.server.openai.answer_fields import completion_usage, timings
from magistral_mlx.server.openai.chat_request import ChatRequest
from magistral_mlx.server.openai.chat_stream import ChatStream, raw_text
from magistral_mlx.server.openai.finish import finish_fields
from magistral_mlx.server.openai.logprob_fields import chat_logprobs
from magistral_mlx.text.conversation import ToolCall


@dataclass(frozen=True, slots=True)
class ChatHead:
    """What all bodies about one request begin with."""

    model: str
    system_fingerprint: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def fields(self) -> dict[str, object]:
        """By OpenAI's names."""
        return {
            "id": self.id,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
        }


def chat_routes(service: Service) -> APIRouter:
    """The route of OpenAI's chat."""
    router = APIRouter()

    @router.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses={**STREAMED, **ERRORS},
        tags=["OpenAI"],
    )
    async def create_chat_completion(asked: ChatRequest, http: Request) -> Response:
        """Continue a conversation, as a whole or as a stream of chunks."""
        service.slot.check_name(asked.model)
        choices = asked.n or 1
        _check_sizes(asked, service)
        record = record_of(http)
        record.user = asked.user or asked.safety_identifier
        if service.settings.log_prompts:
            record.prompt = asked.model_dump(mode="json", exclude_unset=True)["messages"]
        running = await service.begin_chat(
            http, asked.conversation(), asked.generation_options(), choices=choices
        )
        head = ChatHead(
            model_names(running.model)[0], f"fp_{running.model.checkpoint.fingerprint[:12]}"
        )
        if asked.stream:
            usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
            stream = ChatStream(
                head.fields(), running, raw=asked.reasoning_format == "raw", usage=usage
            )
            return AnswerStreamResponse(running, stream.events())
        replies = await running.whole(http)
        raw = asked.reasoning_format == "raw"
        return ModelResponse(chat_completion(head, replies, raw=raw, logprobs=bool(asked.logprobs)))

    return router


def chat_completion(
    head: ChatHead, replies: Sequence[Reply], *, raw: bool, logprobs: bool
) -> ChatCompletion:
    """The body of a whole answer."""
    ends = [reply.end for reply in replies]
    choices = [
        {
            "index": index,
            "message": message_fields(reply, raw=raw),
            "logprobs": {"content": chat_logprobs(reply.logprobs)} if logprobs else None,
            **finish_fields(reply.end, called=bool(reply.tool_calls)),
        }
        for index, reply in enumerate(replies)
    ]
    return ChatCompletion.model_validate(
        {
            **head.fields(),
            "object": "chat.completion",
            "choices": choices,
            "usage": completion_usage(ends),
            "timings": timings(ends[0]),
        }
    )


def message_fields(reply: Reply, *, raw: bool) -> dict[str, object]:
    """An answer as a message, with its reasoning under both of the names that clients read."""
    content = raw_text(reply) if raw else reply.answer
    fields: dict[str, object] = {
        "role": "assistant",
        "content": content if content or not reply.tool_calls else None,
        "refusal": None,
    }
    if reply.reasoning and not raw:
        fields |= {"reasoning_content": reply.reasoning, "reasoning": reply.reasoning}
    if reply.tool_calls:
        fields["tool_calls"] = [call_fields(call) for call in reply.tool_calls]
    return fields


def call_fields(call: ToolCall) -> dict[str, object]:
    """A tool call by OpenAI's names."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _check_sizes(asked: ChatRequest, service: Service) -> None:
    settings = service.settings
    if (asked.n or 1) > settings.max_choices:
        message = f"n is {asked.n}; it must be at most {settings.max_choices}."
        raise ApiError(400, message, code="invalid_value", param="n")
    if len(asked.messages) > settings.max_messages:
        message = f"There are {len(asked.messages):,} messages, of {settings.max_messages:,}."
        raise ApiError(400, message, code="too_many_messages", param="messages")
