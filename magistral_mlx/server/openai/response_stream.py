"""A response of /v1/responses as it comes: its body, its items, and the events that report them."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from openai.types import responses as types
from openai.types.responses import Response
from pydantic import BaseModel
from starlette.types import Scope

from magistral_mlx.events import (
    AnswerText,
    Event,
    Finished,
    ReasoningText,
    TokenLogprob,
    ToolCallArguments,
    ToolCallBegin,
    ToolCallEnd,
)
from magistral_mlx.server.answering.errors import ApiError
from magistral_mlx.server.answering.running import RunningAnswers
from magistral_mlx.server.answering.sending import Fields, StreamFormat, sse
from magistral_mlx.server.openai.answer_fields import chat_logprobs, timings
from magistral_mlx.server.openai.response_request import ResponseRequest
from magistral_mlx.spec import TEMPERATURE, TOP_P

_DEFAULTS: Fields = {
    "instructions": None,
    "metadata": {},
    "previous_response_id": None,
    "max_output_tokens": None,
    "temperature": TEMPERATURE,
    "top_p": TOP_P,
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "user": None,
}
"""Fields that repeat those of the request."""


class ResponseBody:
    """Makes the bodies for one request."""

    def __init__(self, asked: ResponseRequest, *, model: str) -> None:
        def dumped(*names: str) -> dict[str, Any]:
            return asked.model_dump(
                mode="json", by_alias=True, exclude_none=True, include=set(names)
            )

        settings = dumped("text", "reasoning")
        self._fields: Fields = {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "error": None,
            "incomplete_details": None,
            **_DEFAULTS,
            **dumped(*_DEFAULTS),
            "text": {"format": settings.get("text", {}).get("format", {"type": "text"})},
            "reasoning": {"effort": settings.get("reasoning", {}).get("effort"), "summary": None},
            "truncation": "disabled",
        }

    def begun(self) -> Response:
        """Before any output."""
        return self._body({"status": "in_progress", "output": []})

    def ended(self, end: Finished, items: Sequence[Fields]) -> Response:
        """With all output."""
        cut = end.reason in ("length", "timeout")
        details = {"reason": "max_output_tokens"} if cut else None
        return self._body(
            {
                "status": "incomplete" if cut else "completed",
                "incomplete_details": details,
                "output": list(items),
                "usage": _usage(end),
                "timings": timings(end),
            }
        )

    def failed(self, error: ApiError) -> Response:
        """With an error instead of the rest."""
        shown = {"code": "server_error", "message": error.detail}
        return self._body({"status": "failed", "error": shown, "output": []})

    def _body(self, fields: Fields) -> Response:
        return Response.model_validate({**self._fields, **fields})


def _usage(end: Finished) -> Fields:
    usage = end.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


ItemEvent = tuple[str, Fields]
"""The type of an event after "response.", and its fields."""


class ResponseItems:
    """Makes items of the engine's events. `items` are the complete ones so far."""

    def __init__(self) -> None:
        self.items: list[dict[str, object]] = []
        self._index = -1
        self._item: dict[str, object] = {}
        self._text: list[str] = []
        self._logprobs: list[Fields] = []

    def add(self, event: Event) -> Iterator[ItemEvent]:
        """Add an event of the answer; yields the events that report it."""
        match event:
            case ReasoningText(text):
                if self._kind != "reasoning":
                    yield from self._open({"type": "reasoning", "summary": [], "content": []})
                yield from self._delta("reasoning_text", text)
            case AnswerText(text, logprobs):
                if self._kind != "message":
                    yield from self._open({"type": "message", "role": "assistant", "content": []})
                yield from self._delta("output_text", text, logprobs)
            case ToolCallBegin(_, call_id, name):
                call = {"call_id": call_id, "name": name, "arguments": ""}
                yield from self._open({"type": "function_call", **call})
            case ToolCallArguments(_, text):
                self._text.append(text)
                yield "function_call_arguments.delta", self._placed({"delta": text})
            case ToolCallEnd(_, complete):
                yield from self._close(complete=complete)
            case Finished(reason):
                yield from self._close(complete=reason not in ("length", "timeout"), last=True)

    @property
    def _kind(self) -> object:
        return self._item.get("type")

    def _open(self, item: Fields) -> Iterator[ItemEvent]:
        yield from self._close(complete=True)
        self._index += 1
        prefix = {"reasoning": "rs", "message": "msg", "function_call": "fc"}[str(item["type"])]
        item_id = f"{prefix}_{secrets.token_hex(12)}"
        self._item = {"id": item_id, **item, "status": "in_progress"}
        self._text, self._logprobs = [], []
        yield "output_item.added", {"output_index": self._index, "item": dict(self._item)}
        if self._kind != "function_call":
            yield "content_part.added", self._placed({"content_index": 0, "part": self._part()})

    def _delta(
        self, kind: str, text: str, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> Iterator[ItemEvent]:
        self._text.append(text)
        dumped = [one.model_dump() for one in chat_logprobs(logprobs)]
        self._logprobs += dumped
        more = {"logprobs": dumped} if kind == "output_text" else {}
        yield f"{kind}.delta", self._placed({"content_index": 0, "delta": text, **more})

    def _close(self, *, complete: bool, last: bool = False) -> Iterator[ItemEvent]:
        if not self._item:
            return
        if self._kind == "function_call":
            self._item["arguments"] = "".join(self._text)
            done = {"arguments": self._item["arguments"], "name": self._item["name"]}
            yield "function_call_arguments.done", self._placed(done)
        else:
            yield from self._close_text()
        self._item["status"] = "completed" if complete else "incomplete"
        yield "output_item.done", {"output_index": self._index, "item": dict(self._item)}
        # The text of a call that did not parse follows as a message.
        if complete or last:
            self.items.append(self._item)
        self._item = {}

    def _close_text(self) -> Iterator[ItemEvent]:
        part = self._part()
        kind = str(part["type"])
        more = {"logprobs": self._logprobs} if kind == "output_text" else {}
        yield f"{kind}.done", self._placed({"content_index": 0, "text": part["text"], **more})
        yield "content_part.done", self._placed({"content_index": 0, "part": part})
        self._item["content"] = [part]

    def _part(self) -> Fields:
        text = "".join(self._text)
        if self._kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        part = {"type": "output_text", "text": text, "annotations": []}
        return {**part, "logprobs": list(self._logprobs)}

    def _placed(self, fields: Fields) -> Fields:
        return {"item_id": self._item["id"], "output_index": self._index, **fields}


class ResponseStream(StreamFormat):
    """Writes events as OpenAI's numbered events, with the whole response at both ends."""

    def __init__(
        self, answers: RunningAnswers, body: ResponseBody, *, keep: Callable[[Response], None]
    ) -> None:
        """keep: called with the complete response."""
        super().__init__(answers)
        self._body = body
        self._keep = keep
        self._items = ResponseItems()
        self._number = -1

    def begin(self) -> Iterator[str]:
        begun = {"response": self._body.begun()}
        yield self._event("created", begun)
        yield self._event("in_progress", begun)

    def write(self, choice: int, event: Event) -> Iterator[str]:
        for kind, fields in self._items.add(event):
            yield self._event(kind, fields)

    def end(self) -> Iterator[str]:
        [builder] = self.answers.builders
        response = self._body.ended(builder.reply().end, self._items.items)
        self._keep(response)
        yield self._event(str(response.status), {"response": response})

    def fail(self, scope: Scope, error: ApiError) -> Iterator[str]:
        yield self._event("failed", {"response": self._body.failed(error)})

    def _event(self, kind: str, fields: Fields) -> str:
        self._number += 1
        name = f"response.{kind}"
        fields = {"type": name, "sequence_number": self._number, **fields}
        return sse(_EVENTS[kind].model_validate(fields), name=name)


_EVENTS: Mapping[str, type[BaseModel]] = {
    "created": types.ResponseCreatedEvent,
    "in_progress": types.ResponseInProgressEvent,
    "output_item.added": types.ResponseOutputItemAddedEvent,
    "output_item.done": types.ResponseOutputItemDoneEvent,
    "content_part.added": types.ResponseContentPartAddedEvent,
    "content_part.done": types.ResponseContentPartDoneEvent,
    "output_text.delta": types.ResponseTextDeltaEvent,
    "output_text.done": types.ResponseTextDoneEvent,
    "reasoning_text.delta": types.ResponseReasoningTextDeltaEvent,
    "reasoning_text.done": types.ResponseReasoningTextDoneEvent,
    "function_call_arguments.delta": types.ResponseFunctionCallArgumentsDeltaEvent,
    "function_call_arguments.done": types.ResponseFunctionCallArgumentsDoneEvent,
    "completed": types.ResponseCompletedEvent,
    "incomplete": types.ResponseIncompleteEvent,
    "failed": types.ResponseFailedEvent,
}
