"""A chat's answers as a stream of OpenAI's chunks."""

from collections.abc import AsyncIterator, Iterator, Mapping

from openai.types.chat import ChatCompletionChunk

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
from magistral_mlx.server.answering.running import RunningAnswers
from magistral_mlx.server.answering.sending import DONE, KEEP_ALIVE, event
from magistral_mlx.server.openai.answer_fields import completion_usage, timings
from magistral_mlx.server.openai.finish import finish_fields
from magistral_mlx.server.openai.logprob_fields import chat_logprobs
from magistral_mlx.spec import THINK_CLOSE, THINK_OPEN

Fields = Mapping[str, object]

RAW_OPENING, RAW_CLOSING = f"{THINK_OPEN}\n", f"\n{THINK_CLOSE}\n"
"""The tags around reasoning that is part of the content."""


class ChatStream:
    """Makes chunks of events.

    raw: reasoning is part of the content, between tags. usage: a last chunk has token counts.
    """

    def __init__(self, head: Fields, answers: RunningAnswers, *, raw: bool, usage: bool) -> None:
        self._head = {**head, "object": "chat.completion.chunk"}
        self._answers = answers
        self._raw = raw
        self._usage = usage
        self._thinking: set[int] = set()  # answers whose raw reasoning is open

    async def events(self) -> AsyncIterator[str]:
        """The stream's text."""
        for choice in range(self._answers.count):
            yield self._chunk(choice, {"role": "assistant", "content": ""})
        async for batch in self._answers.batches():
            if not batch:
                yield KEEP_ALIVE
            for choice_event in batch:
                for text in self._texts(choice_event.choice, choice_event.event):
                    yield text
        if self._usage:
            ends = [builder.reply().end for builder in self._answers.builders]
            usage = {"choices": [], "usage": completion_usage(ends)}
            yield event(ChatCompletionChunk.model_validate({**self._head, **usage}))
        yield DONE

    def _texts(self, choice: int, told: Event) -> Iterator[str]:
        if self._raw and choice in self._thinking and not isinstance(told, ReasoningText):
            self._thinking.remove(choice)
            if not isinstance(told, Finished):
                yield self._chunk(choice, {"content": RAW_CLOSING})
        match told:
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
                called = self._answers.builders[choice].has_calls
                finish = finish_fields(told, called=called)
                yield self._chunk(choice, {}, finish=finish, timings=timings(told))

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
        return event(ChatCompletionChunk.model_validate(chunk))


def raw_text(reply: Reply) -> str:
    """Reasoning and answer as one text, as the model writes it."""
    if not reply.reasoning:
        return reply.answer
    return f"{RAW_OPENING}{reply.reasoning}{RAW_CLOSING}{reply.answer}"
