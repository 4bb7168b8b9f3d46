"""The items of a response as they come, and the events that tell of them."""

import secrets
from collections.abc import Iterator, Mapping

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
from magistral_mlx.server.openai.logprob_fields import chat_logprobs

Fields = Mapping[str, object]
Told = tuple[str, Fields]
"""An event's type after "response.", and its fields."""


class ResponseItems:
    """Takes the events of an answer; `items` are the complete ones so far."""

    def __init__(self) -> None:
        self.items: list[dict[str, object]] = []
        self._index = -1
        self._item: dict[str, object] = {}
        self._text = ""
        self._logprobs: list[Fields] = []

    def take(self, told: Event) -> list[Told]:
        """What an event makes known."""
        return list(self._told(told))

    def _told(self, told: Event) -> Iterator[Told]:
        match told:
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
                self._text += text
                yield "function_call_arguments.delta", self._placed({"delta": text})
            case ToolCallEnd(_, complete):
                yield from self._close(complete=complete)
            case Finished(reason):
                yield from self._close(complete=reason not in ("length", "timeout"), last=True)

    @property
    def _kind(self) -> object:
        return self._item.get("type")

    def _open(self, item: Fields) -> Iterator[Told]:
        yield from self._close(complete=True)
        self._index += 1
        prefix = {"reasoning": "rs", "message": "msg", "function_call": "fc"}[str(item["type"])]
        item_id = f"{prefix}_{secrets.token_hex(12)}"
        self._item = {"id": item_id, **item, "status": "in_progress"}
        self._text, self._logprobs = "", []
        yield "output_item.added", {"output_index": self._index, "item": dict(self._item)}
        if self._kind != "function_call":
            yield "content_part.added", self._placed({"content_index": 0, "part": self._part()})

    def _delta(
        self, kind: str, text: str, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> Iterator[Told]:
        self._text += text
        told = [one.model_dump() for one in chat_logprobs(logprobs)]
        self._logprobs += told
        more = {"logprobs": told} if kind == "output_text" else {}
        yield f"{kind}.delta", self._placed({"content_index": 0, "delta": text, **more})

    def _close(self, *, complete: bool, last: bool = False) -> Iterator[Told]:
        if not self._item:
            return
        if self._kind == "function_call":
            self._item["arguments"] = self._text
            done = {"arguments": self._text, "name": self._item["name"]}
            yield "function_call_arguments.done", self._placed(done)
        else:
            yield from self._close_text()
        self._item["status"] = "completed" if complete else "incomplete"
        yield "output_item.done", {"output_index": self._index, "item": dict(self._item)}
        # A call that did not parse comes again as text.
        if complete or last:
            self.items.append(self._item)
        self._item = {}

    def _close_text(self) -> Iterator[Told]:
        part = self._part()
        kind = str(part["type"])
        more = {"logprobs": self._logprobs} if kind == "output_text" else {}
        yield f"{kind}.done", self._placed({"content_index": 0, "text": self._text, **more})
        yield "content_part.done", self._placed({"content_index": 0, "part": part})
        self._item["content"] = [part]

    def _part(self) -> Fields:
        if self._kind == "reasoning":
            return {"type": "reasoning_text", "text": self._text}
        part = {"type": "output_text", "text": self._text, "annotations": []}
        return {**part, "logprobs": list(self._logprobs)}

    def _placed(self, fields: Fields) -> Fields:
        return {"item_id": self._item["id"], "output_index": self._index, **fields}
