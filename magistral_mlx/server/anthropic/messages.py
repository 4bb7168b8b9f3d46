"""POST /v1/messages and /v1/messages/count_tokens, for Anthropic's clients."""

import asyncio
import json
import secrets
from collections.abc import Mapping
from hashlib import sha256

from anthropic.types import Message, MessageTokensCount
from fastapi import APIRouter, Request
from fastapi.responses import Response

from magistral_mlx.reply import Reply
from magistral_mlx.server.answering.json_response import ModelResponse
from magistral_mlx.server.answering.model_slot import model_names
from magistral_mlx.server.answering.sending import STREAMED, AnswerStreamResponse
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.anthropic.message_request import CountRequest, Display, MessageRequest
from magistral_mlx.server.anthropic.message_stream import MessageStream
from magistral_mlx.server.anthropic.message_usage import message_usage, stop_fields
from magistral_mlx.server.errors import ANTHROPIC_ERRORS, ApiError
from magistral_mlx.server.layers.records import record_of

Fields = Mapping[str, object]


def message_routes(service: Service) -> APIRouter:
    """Anthropic's interface."""
    router = APIRouter(responses={**ANTHROPIC_ERRORS}, tags=["Anthropic"])

    @router.post("/v1/messages", response_model=Message, responses={**STREAMED})
    async def create_message(asked: MessageRequest, http: Request) -> Response:
        """Continue a conversation, as a whole or as a stream of events."""
        service.slot.check_name(asked.model)
        _check_messages(asked, service)
        record = record_of(http)
        record.user = None if asked.metadata is None else asked.metadata.user_id
        if service.settings.log_prompts:
            record.prompt = asked.model_dump(mode="json", exclude_unset=True)["messages"]
        running = await service.begin_chat(http, asked.conversation(), asked.generation_options())
        head = {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": model_names(running.model)[0],
        }
        limit = asked.max_tokens
        if asked.stream:
            stream = MessageStream(head, running, display=asked.display, limit=limit)
            return AnswerStreamResponse(running, stream.events(), error_name="error")
        [reply] = await running.whole(http)
        return ModelResponse(_message(head, reply, display=asked.display, limit=limit))

    @router.post("/v1/messages/count_tokens", response_model=MessageTokensCount)
    async def count_tokens(asked: CountRequest) -> Response:
        """How many tokens the prompt would have."""
        service.slot.check_name(asked.model)
        _check_messages(asked, service)
        model = service.slot.get()
        count = await asyncio.to_thread(
            model.prompt_tokens, asked.conversation(), asked.prompt_options()
        )
        return ModelResponse(MessageTokensCount(input_tokens=count))

    return router


def _message(head: Fields, reply: Reply, *, display: Display, limit: int) -> Message:
    return Message.model_validate(
        {
            **head,
            "content": _blocks(reply, display),
            **stop_fields(reply.end, called=bool(reply.tool_calls), limit=limit),
            "usage": message_usage(reply.end),
        }
    )


def _blocks(reply: Reply, display: Display) -> list[Fields]:
    blocks: list[Fields] = []
    if reply.reasoning:
        shown = reply.reasoning if display == "summarized" else ""
        signed = signature(reply.reasoning)
        blocks.append({"type": "thinking", "thinking": shown, "signature": signed})
    if reply.answer or not reply.tool_calls:
        blocks.append({"type": "text", "text": reply.answer, "citations": None})
    for call in reply.tool_calls:
        given = json.loads(call.arguments)
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
    return blocks


def signature(thinking: str) -> str:
    """Something for a field that may not be empty; nothing is verified by it."""
    return sha256(thinking.encode()).hexdigest()[:32]


def _check_messages(asked: CountRequest, service: Service) -> None:
    most = service.settings.max_messages
    if len(asked.messages) > most:
        raise ApiError(400, f"There are {len(asked.messages):,} messages, of {most:,} allowed.")
