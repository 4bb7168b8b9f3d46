"""POST /v1/completions: a prompt as it is, without a chat's template."""

from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from openai.types import Completion
from pydantic import Field

from magistral_mlx.api import Magistral
from magistral_mlx.engine.request import Request as EngineRequest
from magistral_mlx.events import AnswerText, Event, Finished, TokenLogprob
from magistral_mlx.reply import Reply
from magistral_mlx.server.answering.errors import ERRORS
from magistral_mlx.server.answering.running import RunningAnswers
from magistral_mlx.server.answering.sending import (
    DONE,
    STREAMED,
    AnswerStreamResponse,
    Fields,
    ModelResponse,
    StreamFormat,
    sse,
)
from magistral_mlx.server.answering.service import Service, several
from magistral_mlx.server.fields.strict_model import Items, No
from magistral_mlx.server.layers.body import JsonRoute
from magistral_mlx.server.openai.answer_fields import (
    completion_usage,
    finish_fields,
    head_fields,
    timings,
    token_text,
    whole_fields,
)
from magistral_mlx.server.openai.chat_request import ResponseFormat, StreamingFields, answer_schema

Ids = Annotated[Items[int], Field(min_length=1)]
Prompt = (
    str
    | Ids
    | Annotated[Items[str], Field(min_length=1)]
    | Annotated[Items[Ids], Field(min_length=1)]
)

MAX_TOKENS = 16
"""OpenAI's default for this route; null means what the window holds."""

MAX_COMPLETION_LOGPROBS = 20


class CompletionRequest(StreamingFields):
    """One prompt or several, as text (after the beginning token) or as token ids (as they are).

    Control tokens in the text are only text.
    """

    model: str
    prompt: Prompt
    max_tokens: int | None = Field(MAX_TOKENS, ge=1)
    n: int | None = Field(None, ge=1)
    logprobs: int | None = Field(None, ge=0, le=MAX_COMPLETION_LOGPROBS)
    echo: No | None = None
    suffix: None = None
    best_of: int | None = Field(None, ge=1, le=1)
    response_format: ResponseFormat | None = None
    user: str | None = None

    @property
    def prompts(self) -> Sequence[str | Sequence[int]]:
        """The prompts, as text or as ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [part for part in self.prompt if isinstance(part, int)]
        return [ids] if ids else [part for part in self.prompt if not isinstance(part, int)]

    def requests(self, model: Magistral, *, timeout: float) -> list[EngineRequest]:
        """The engine's requests, prompt by prompt, the choices of each side by side.

        timeout: seconds. Raises RequestError for values out of range.
        """
        options = replace(
            self.options(),
            max_tokens=self.max_tokens,
            logprobs=self.logprobs,
            guidance=answer_schema(self.response_format),
            timeout=timeout,
        )
        begin_ids, encode = model.tokenizer.begin_ids, model.tokenizer.encode
        requests: list[EngineRequest] = []
        for prompt in self.prompts:
            ids = begin_ids + encode(prompt) if isinstance(prompt, str) else prompt
            requests += several(model.raw_request(ids, options), self.n or 1)
        return requests


def completion_routes(service: Service) -> APIRouter:
    """OpenAI's older interface."""
    router = APIRouter(route_class=JsonRoute, responses={**ERRORS}, tags=["OpenAI"])

    @router.post("/v1/completions", response_model=Completion, responses={**STREAMED})
    async def create_completion(asked: CompletionRequest, http: Request) -> Response:
        """Continue a prompt; all output is text, reasoning too."""
        service.accept(http, asked, model=asked.model, user=asked.user, prompt="prompt")
        choices = service.check_choices(len(asked.prompts) * (asked.n or 1))
        timeout = service.settings.request_timeout
        answers = await service.begin(
            http, lambda model: asked.requests(model, timeout=timeout), choices
        )
        head = {**head_fields(answers.model, prefix="cmpl"), "object": "text_completion"}
        if asked.stream:
            return AnswerStreamResponse(CompletionStream(head, answers, asked))
        return ModelResponse(_completion(head, await answers.replies(http), asked))

    return router


class CompletionStream(StreamFormat):
    """Writes events as chunks."""

    def __init__(self, head: Fields, answers: RunningAnswers, asked: CompletionRequest) -> None:
        self._head = head
        super().__init__(answers)
        self._usage = asked.streams_usage
        self._offsets = [0] * answers.count  # characters so far

    def write(self, choice: int, event: Event) -> Iterator[str]:
        if isinstance(event, AnswerText):
            offset = self._offsets[choice]
            logprobs = _logprobs(event.logprobs, offset) if event.logprobs else None
            self._offsets[choice] += len(event.text)
            fields: Fields = {"text": event.text, "logprobs": logprobs, "finish_reason": None}
            yield self._chunk({"index": choice, **fields})
        elif isinstance(event, Finished):
            fields = {"text": "", "logprobs": None, **finish_fields(event, called=False)}
            yield self._chunk({"index": choice, **fields}, timings=timings(event))

    def end(self) -> Iterator[str]:
        if self._usage:
            ends = [builder.reply().end for builder in self.answers.builders]
            usage = {"choices": [], "usage": completion_usage(ends)}
            yield sse(Completion.model_validate({**self._head, **usage}))
        yield DONE

    def _chunk(self, choice: Fields, *, timings: Fields | None = None) -> str:
        # Not validated: the type's finish_reason is never null, but that of a chunk is.
        chunk: dict[str, Any] = {**self._head, "choices": [choice]}
        if timings is not None:
            chunk["timings"] = timings
        return sse(Completion.construct(**chunk))


def _completion(head: Fields, replies: Sequence[Reply], asked: CompletionRequest) -> Completion:
    choices = [
        {
            "index": index,
            "text": reply.answer,
            "logprobs": None if asked.logprobs is None else _logprobs(reply.logprobs, 0),
            **finish_fields(reply.end, called=False),
        }
        for index, reply in enumerate(replies)
    ]
    return Completion.model_validate({**head, **whole_fields(choices, replies)})


def _logprobs(logprobs: Sequence[TokenLogprob], offset: int) -> Fields:
    """In this interface's older shape: lists side by side, offsets in characters."""
    offsets: list[int] = []
    decoder = getincrementaldecoder("utf-8")(errors="ignore")
    for one in logprobs:
        offsets.append(offset)
        offset += len(decoder.decode(one.text))
    return {
        "tokens": [token_text(one) for one in logprobs],
        "token_logprobs": [one.logprob for one in logprobs],
        "top_logprobs": [{token_text(top): top.logprob for top in one.top} for one in logprobs],
        "text_offset": offsets,
    }
