"""An answer as a stream of Anthropic's events."""

from collections.abc import AsyncIterator, Iterator, Mapping
from hashlib import sha256

from anthropic.types import (
    RawContentBlockDeltaEvent,
    RawContentBlockStartEvent,
    RawContentBlockStopEvent,
    RawMessageDeltaEvent,
    RawMessageStartEvent,
    RawMessageStopEvent,
)

from magistral_mlx.events import (
    AnswerText,
    Event,
    Finished,
    ReasoningText,
    ToolCallArguments,
    ToolCallBegin,
    ToolCallEnd,
)
from magistral_mlx.server.answering.running import RunningAnswers
from magistral_mlx.server.answering.sending import event
from magistral_mlx.server.anthropic.message_request import Display
from magistral_mlx.server.anthropic.message_usage import message_usage, stop_fields

Fields = Mapping[str, object]

PING = 'event: ping\ndata: {"type": "ping"}\n\n'


class MessageStream:
    """Makes blocks of events: a block begins when another kind of text does, or another call."""

    def __init__(
        self, head: Fields, running: RunningAnswers, *, display: Display, limit: int
    ) -> None:
        self._head = head
        self._running = running
        self._display = display
        self._limit = limit
        self._index = -1
        self._kind: str | None = None  # of the block that is open
        self._thinking = sha256()

    async def events(self) -> AsyncIterator[str]:
        """The stream's text."""
        # What of it is cached turns out later; the last event tells.
        usage = {"input_tokens": self._running.prompt_tokens, "output_tokens": 0}
        empty: Fields = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        message = {**self._head, **empty}
        yield _named(
            RawMessageStartEvent.model_validate({"type": "message_start", "message": message})
        )
        yield PING
        async for batch in self._running.batches():
            if not batch:
                yield PING
            for choice_event in batch:
                for text in self._texts(choice_event.event):
                    yield text
        yield _named(RawMessageStopEvent(type="message_stop"))

    def _texts(self, told: Event) -> Iterator[str]:
        match told:
            case ReasoningText(text):
                if self._kind != "thinking":
                    yield from self._open("thinking", {"thinking": "", "signature": ""})
                self._thinking.update(text.encode())
                if self._display == "summarized":
                    yield self._delta({"type": "thinking_delta", "thinking": text})
            case AnswerText(text):
                if self._kind != "text":
                    yield from self._open("text", {"text": "", "citations": None})
                yield self._delta({"type": "text_delta", "text": text})
            case Finished():
                if self._index < 0:
                    yield from self._open("text", {"text": "", "citations": None})
                yield from self._close()
                yield self._end(told)
            case _:
                yield from self._call_texts(told)

    def _call_texts(self, told: Event) -> Iterator[str]:
        match told:
            case ToolCallBegin(_, call_id, name):
                yield from self._open("tool_use", {"id": call_id, "name": name, "input": {}})
            case ToolCallArguments(_, text):
                yield self._delta({"type": "input_json_delta", "partial_json": text})
            case ToolCallEnd():
                yield from self._close()

    def _open(self, kind: str, fields: Fields) -> Iterator[str]:
        yield from self._close()
        self._index += 1
        self._kind = kind
        block = {"type": kind, **fields}
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        yield _named(RawContentBlockStartEvent.model_validate(start))

    def _close(self) -> Iterator[str]:
        if self._kind is None:
            return
        if self._kind == "thinking":
            signed = self._thinking.hexdigest()[:32]
            yield self._delta({"type": "signature_delta", "signature": signed})
        self._kind = None
        yield _named(RawContentBlockStopEvent(type="content_block_stop", index=self._index))

    def _delta(self, delta: Fields) -> str:
        fields = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return _named(RawContentBlockDeltaEvent.model_validate(fields))

    def _end(self, end: Finished) -> str:
        called = self._running.builders[0].has_calls
        fields = {
            "type": "message_delta",
            "delta": stop_fields(end, called=called, limit=self._limit),
            "usage": message_usage(end),
        }
        return _named(RawMessageDeltaEvent.model_validate(fields))


def _named(
    data: RawMessageStartEvent
    | RawMessageDeltaEvent
    | RawMessageStopEvent
    | RawContentBlockStartEvent
    | RawContentBlockDeltaEvent
    | RawContentBlockStopEvent,
) -> str:
    return event(data, name=data.type)
