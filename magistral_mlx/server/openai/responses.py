"""POST /v1/responses, and the responses that are kept."""

from collections.abc import AsyncIterator, Callable, Mapping

from fastapi import APIRouter, Request
from fastapi.responses import Response as HttpResponse
from openai.types import responses as types
from openai.types.responses import Response
from pydantic import BaseModel

from magistral_mlx.server.answering.json_response import ModelResponse
from magistral_mlx.server.answering.model_slot import model_names
from magistral_mlx.server.answering.running import RunningAnswers
from magistral_mlx.server.answering.sending import KEEP_ALIVE, STREAMED, AnswerStreamResponse, event
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.errors import ERRORS, ApiError
from magistral_mlx.server.layers.records import record_of
from magistral_mlx.server.openai.response_body import ResponseBody
from magistral_mlx.server.openai.response_items import messages_of
from magistral_mlx.server.openai.response_request import ResponseRequest
from magistral_mlx.server.openai.response_store import ResponseStore
from magistral_mlx.server.openai.response_stream import ResponseItems
from magistral_mlx.text.conversation import Message

Fields = Mapping[str, object]


class Deleted(BaseModel):
    """That a response is no longer kept."""

    id: str
    object: str = "response"
    deleted: bool = True


def response_routes(service: Service) -> APIRouter:
    """OpenAI's newer interface; conversations are kept in memory, within a bound."""
    router = APIRouter(responses={**ERRORS}, tags=["OpenAI"])
    store = ResponseStore(limit=service.settings.stored_bytes)

    @router.post("/v1/responses", response_model=Response, responses={**STREAMED})
    async def create_response(asked: ResponseRequest, http: Request) -> HttpResponse:
        """Go on from an input, and from an earlier response if one is named."""
        service.slot.check_name(asked.model)
        turn = _turn(asked, store, http)
        if len(turn) > service.settings.max_messages:
            most = service.settings.max_messages
            raise ApiError(400, f"There are {len(turn):,} messages, of {most:,} allowed.")
        record = record_of(http)
        record.user = asked.user or asked.safety_identifier
        if service.settings.log_prompts:
            record.prompt = asked.model_dump(mode="json", exclude_unset=True)["input"]
        instructions = [Message("system", asked.instructions)] if asked.instructions else []
        running = await service.begin_chat(http, [*instructions, *turn], asked.generation_options())
        body = ResponseBody(asked, model=model_names(running.model)[0])
        answering = _Answering(running, body)

        def keep(response: Response) -> None:
            if asked.store is not False:
                store.put(http.state.client, response, [*turn, answering.message()])

        if asked.stream:
            return AnswerStreamResponse(running, answering.events(keep))
        return ModelResponse(await answering.whole(http, keep))

    @router.get("/v1/responses/{response_id}", response_model=Response)
    async def retrieve_response(response_id: str, http: Request) -> HttpResponse:
        """A response that is kept."""
        return ModelResponse(store.get(http.state.client, response_id).body)

    @router.delete("/v1/responses/{response_id}")
    async def delete_response(response_id: str, http: Request) -> Deleted:
        """Forget a response."""
        store.delete(http.state.client, response_id)
        return Deleted(id=response_id)

    return router


def _turn(asked: ResponseRequest, store: ResponseStore, http: Request) -> list[Message]:
    """The conversation without the instructions, which are for one response only."""
    if asked.previous_response_id is None:
        return messages_of(asked.input)
    before = store.get(http.state.client, asked.previous_response_id)
    return [*before.messages, *messages_of(asked.input)]


Keep = Callable[[Response], None]


class _Answering:
    """One response on its way."""

    def __init__(self, running: RunningAnswers, body: ResponseBody) -> None:
        self._running = running
        self._body = body
        self._items = ResponseItems()
        self._number = -1

    def message(self) -> Message:
        """The whole answer as a message."""
        reply = self._running.builders[0].reply()
        return Message("assistant", reply.answer, reply.reasoning or None, reply.tool_calls)

    async def whole(self, http: Request, keep: Keep) -> Response:
        """The response when it is complete."""
        [reply] = await self._running.whole(http, each=self._items.take)
        response = self._body.ended(reply.end, self._items.items)
        keep(response)
        return response

    async def events(self, keep: Keep) -> AsyncIterator[str]:
        """The response as a stream."""
        begun = {"response": self._body.begun()}
        yield self._event("created", begun)
        yield self._event("in_progress", begun)
        try:
            async for batch in self._running.batches():
                if not batch:
                    yield KEEP_ALIVE
                for choice_event in batch:
                    for kind, fields in self._items.take(choice_event.event):
                        yield self._event(kind, fields)
        except ApiError as error:
            yield self._event("failed", {"response": self._body.failed(error)})
            return
        response = self._body.ended(self._running.builders[0].reply().end, self._items.items)
        keep(response)
        yield self._event(str(response.status), {"response": response})

    def _event(self, kind: str, fields: Fields) -> str:
        self._number += 1
        name = f"response.{kind}"
        fields = {"type": name, "sequence_number": self._number, **fields}
        return event(_EVENTS[kind].model_validate(fields), name=name)


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
