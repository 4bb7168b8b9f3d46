"""POST /v1/chat/completions."""

from collections.abc import Iterator, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from magistral_mlx.events import (
    AnswerText,
    Event,
    Finished,
    ReasoningText,
    TokenLogprob,
    ToolCallArguments,
    ToolCallBegin,
)
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
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.layers.body import JsonRoute
from magistral_mlx.server.openai.answer_fields import (
    chat_logprobs,
    completion_usage,
    finish_fields,
    head_fields,
    timings,
    whole_fields,
)
from magistral_mlx.server.openai.chat_request import ChatRequest
from magistral_mlx.spec import THINK_CLOSE, THINK_OPEN


def chat_routes(service: Service) -> APIRouter:
    """OpenAI's chat."""
    router = APIRouter(route_class=JsonRoute, responses={**ERRORS}, tags=["OpenAI"])

    @router.post("/v1/chat/completions", response_model=ChatCompletion, responses={**STREAMED})
    async def create_chat_completion(asked: ChatRequest, http: Request) -> Response:
        """Continue a conversation; the answer comes whole or as a stream of chunks."""
        user = asked.user or asked.safety_identifier
        service.accept(http, asked, model=asked.model, user=user, prompt="messages")
        choices = service.check_choices(asked.n or 1)
        service.check_messages(len(asked.messages))
        answers = await service.begin_chat(
            http, asked.conversation(), asked.generation_options(), choices=choices
        )
        head = head_fields(answers.model, prefix="chatcmpl")
        head["system_fingerprint"] = f"fp_{answers.model.checkpoint.fingerprint[:12]}"
        if asked.stream:
            return AnswerStreamResponse(ChatStream(head, answers, asked))
        return ModelResponse(chat_completion(head, await answers.replies(http), asked))

    return router


def chat_completion(head: Fields, replies: Sequence[Reply], asked: ChatRequest) -> ChatCompletion:
    """The body of a whole answer."""
    choices = [
        {
            "index": index,
            "message": _message_fields(reply, raw=asked.is_raw),
            "logprobs": {"content": chat_logprobs(reply.logprobs)} if asked.logprobs else None,
            **finish_fields(reply.end, called=bool(reply.tool_calls)),
        }
        for index, reply in enumerate(replies)
    ]
    whole = whole_fields(choices, replies)
    return ChatCompletion.model_validate({**head, "object": "chat.completion", **whole})


def _message_fields(reply: Reply, *, raw: bool) -> Fields:
    """A reply as a message. Clients read the reasoning under either of two names."""
    content = raw_text(reply) if raw else reply.answer
    fields: dict[str, object] = {
        "role": "assistant",
        "content": content if content or not reply.tool_calls else None,
        "refusal": None,
    }
    if reply.reasoning and not raw:
        fields |= {"reasoning_content": reply.reasoning, "reasoning": reply.reasoning}
    if reply.tool_calls:
        fields["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in reply.tool_calls
        ]
    return fields


RAW_OPENING, RAW_CLOSING = f"{THINK_OPEN}\n", f"\n{THINK_CLOSE}\n"
"""Around reasoning that is part of the content."""


class ChatStream(StreamFormat):
    """Writes events as chunks."""

    def __init__(self, head: Fields, answers: RunningAnswers, asked: ChatRequest) -> None:
        self._head = {**head, "object": "chat.completion.chunk"}
        super().__init__(answers)
        self._raw = asked.is_raw
        self._usage = asked.streams_usage
        self._thinking: set[int] = set()  # answers whose raw reasoning is open

    def begin(self) -> Iterator[str]:
        for choice in range(self.answers.count):
            yield self._chunk(choice, {"role": "assistant", "content": ""})

    def write(self, choice: int, event: Event) -> Iterator[str]:
        if self._raw and choice in self._thinking and not isinstance(event, ReasoningText):
            self._thinking.remove(choice)
            if not isinstance(event, Finished):
                yield self._chunk(choice, {"content": RAW_CLOSING})
        match event:
            case ReasoningText(text):
                yield self._chunk(choice, self._reasoning(choice, text))
            case AnswerText(text, logprobs):
                yield self._chunk(choice, {"content": text}, logprobs=logprobs)
            case ToolCallBegin(index, call_id, name):
                begun = {"id": call_id, "type": "function"}
                yield self._call(choice, index, begun, {"name": name, "arguments": ""})
            case ToolCallArguments(index, text):
                yield self._call(choice, index, {}, {"arguments": text})
            case Finished():
                called = self.answers.builders[choice].has_calls
                finish = finish_fields(event, called=called)
                yield self._chunk(choice, {}, finish=finish, timings=timings(event))

    def end(self) -> Iterator[str]:
        if self._usage:
            ends = [builder.reply().end for builder in self.answers.builders]
            usage = {"choices": [], "usage": completion_usage(ends)}
            yield sse(ChatCompletionChunk.model_validate({**self._head, **usage}))
        yield DONE

    def _reasoning(self, choice: int, text: str) -> Fields:
        if not self._raw:
            return {"reasoning_content": text, "reasoning": text}
        opening = "" if choice in self._thinking else RAW_OPENING
        self._thinking.add(choice)
        return {"content": opening + text}

    def _call(self, choice: int, index: int, fields: Fields, function: Fields) -> str:
        return self._chunk(
            choice, {"tool_calls": [{"index": index, **fields, "function": function}]}
        )

    def _chunk(
        self,
        choice: int,
        delta: Fields,
        *,
        logprobs: tuple[TokenLogprob, ...] = (),
        finish: Fields | None = None,
        timings: Fields | None = None,
    ) -> str:
        fields = {"index": choice, "delta": delta, "finish_reason": None, **(finish or {})}
        if logprobs:
            fields["logprobs"] = {"content": chat_logprobs(logprobs)}
        chunk = {**self._head, "choices": [fields]}
        if timings is not None:
            chunk["timings"] = timings
        return sse(ChatCompletionChunk.model_validate(chunk))


def raw_text(reply: Reply) -> str:
    """Reasoning and answer as one text, as the model writes it."""
    if not reply.reasoning:
        return reply.answer
    return f"{RAW_OPENING}{reply.reasoning}{RAW_CLOSING}{reply.answer}"
