"""POST /v1/completions."""

import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from openai.types import Completion

from magistral_mlx.events import AnswerText, Finished, TokenLogprob
from magistral_mlx.server.answering.json_response import ModelResponse
from magistral_mlx.server.answering.model_slot import model_names
from magistral_mlx.server.answering.running import RunningAnswers
from magistral_mlx.server.answering.sending import (
    DONE,
    KEEP_ALIVE,
    STREAMED,
    AnswerStreamResponse,
    event,
)
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.errors import ERRORS, ApiError
from magistral_mlx.server.layers.records import record_of
from magistral_mlx.server.openai.answer_fields import completion_usage, timings
from magistral_mlx.server.openai.completion_request import CompletionRequest
from magistral_mlx.server.openai.finish import finish_fields
from magistral_mlx.server.openai.logprob_fields import token_text

Fields = Mapping[str, object]


def completion_routes(service: Service) -> APIRouter:
    """The route of OpenAI's older interface."""
    router = APIRouter()

    @router.post(
        "/v1/completions",
        response_model=Completion,
        responses={**STREAMED, **ERRORS},
        tags=["OpenAI"],
    )
    async def create_completion(asked: CompletionRequest, http: Request) -> Response:
        """Go on from a prompt; all output is text, reasoning too."""
        service.slot.check_name(asked.model)
        choices = asked.prompts * (asked.n or 1)
        if choices > service.settings.max_choices:
            message = f"n is {choices}, over all prompts; {service.settings.max_choices} at most."
            raise ApiError(400, message, code="invalid_value", param="n")
        record = record_of(http)
        record.user = asked.user
        if service.settings.log_prompts:
            record.prompt = asked.prompt
        running = await service.begin_raw(http, asked.requests, choices)
        head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model_names(running.model)[0],
        }
        if asked.stream:
            usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
            return AnswerStreamResponse(running, _chunks(head, running, usage=usage))
        return ModelResponse(await _completion(head, running, http, asked.logprobs is not None))

    return router


async def _completion(
    head: Fields, running: RunningAnswers, http: Request, logprobs: bool
) -> Completion:
    replies = await running.whole(http)
    choices = [
        {
            "index": index,
            "text": reply.answer,
            "logprobs": _logprobs(reply.logprobs, 0) if logprobs else None,
            **finish_fields(reply.end, called=False),
        }
        for index, reply in enumerate(replies)
    ]
    ends = [reply.end for reply in replies]
    return Completion.model_validate(
        {
            **head,
            "choices": choices,
            "usage": completion_usage(ends),
            "timings": timings(ends[0]),
        }
    )


async def _chunks(head: Fields, running: RunningAnswers, *, usage: bool) -> AsyncIterator[str]:
    offsets = [0] * running.count
    async for batch in running.batches():
        if not batch:
            yield KEEP_ALIVE
        for choice_event in batch:
            choice, told = choice_event.choice, choice_event.event
            if isinstance(told, AnswerText):
                logprobs = _logprobs(told.logprobs, offsets[choice]) if told.logprobs else None
                fields: dict[str, object] = {"text": told.text, "logprobs": logprobs}
                offsets[choice] += len(told.text)
                yield _chunk(head, {"index": choice, "finish_reason": None, **fields})
            elif isinstance(told, Finished):
                fields = {"text": "", "logprobs": None, **finish_fields(told, called=False)}
                yield _chunk(head, {"index": choice, **fields}, timings=timings(told))
    if usage:
        ends = [builder.reply().end for builder in running.builders]
        yield event(
            Completion.model_validate({**head, "choices": [], "usage": completion_usage(ends)})
        )
    yield DONE


def _chunk(head: Fields, choice: Fields, **more: object) -> str:
    # The type's finish_reason is never null, as that of a chunk is until the last.
    chunk: dict[str, Any] = {**head, "choices": [choice], **more}
    return event(Completion.construct(**chunk))


def _logprobs(logprobs: Sequence[TokenLogprob], offset: int) -> Fields:
    """In this interface's older shape: lists side by side, places in characters."""
    offsets: list[int] = []
    text = b""
    for one in logprobs:
        offsets.append(offset + len(text.decode(errors="ignore")))
        text += one.text
    return {
        "tokens": [token_text(one) for one in logprobs],
        "token_logprobs": [one.logprob for one in logprobs],
        "top_logprobs": [{token_text(top): top.logprob for top in one.top} for one in logprobs],
        "text_offset": offsets,
    }
