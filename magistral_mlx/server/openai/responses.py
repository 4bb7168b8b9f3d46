"""POST /v1/responses, and the responses that are kept."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response as HttpResponse
from openai.types.responses import Response
from pydantic import BaseModel

from magistral_mlx.server.answering.errors import ERRORS, ApiError
from magistral_mlx.server.answering.model_slot import model_names
from magistral_mlx.server.answering.sending import STREAMED, AnswerStreamResponse, ModelResponse
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.layers.body import JsonRoute
from magistral_mlx.server.openai.response_items import messages_of
from magistral_mlx.server.openai.response_request import ResponseRequest
from magistral_mlx.server.openai.response_stream import ResponseBody, ResponseItems, ResponseStream
from magistral_mlx.text.conversation import Message


class Deleted(BaseModel):
    """A response is no longer kept."""

    id: str
    object: str = "response"
    deleted: bool = True


def response_routes(service: Service) -> APIRouter:
    """OpenAI's newer interface. Responses are kept in memory, up to a limit."""
    router = APIRouter(route_class=JsonRoute, responses={**ERRORS}, tags=["OpenAI"])
    store = ResponseStore(limit=service.settings.stored_bytes)

    @router.post("/v1/responses", response_model=Response, responses={**STREAMED})
    async def create_response(asked: ResponseRequest, http: Request) -> HttpResponse:
        """Answer an input, which may continue an earlier response."""
        user = asked.user or asked.safety_identifier
        service.accept(http, asked, model=asked.model, user=user, prompt="input")
        turn = messages_of(asked.input)
        if asked.previous_response_id is not None:
            turn = [*store.get(http.state.client, asked.previous_response_id).messages, *turn]
        service.check_messages(len(turn), param="input")
        # The instructions are for this response only.
        instructions = [Message("system", asked.instructions)] if asked.instructions else []
        answers = await service.begin_chat(http, [*instructions, *turn], asked.generation_options())
        body = ResponseBody(asked, model=model_names(answers.model)[0])

        def keep(response: Response) -> None:
            reply = answers.builders[0].reply()
            answer = Message("assistant", reply.answer, reply.reasoning or None, reply.tool_calls)
            if asked.store is not False:
                store.put(http.state.client, response, [*turn, answer])

        if asked.stream:
            return AnswerStreamResponse(ResponseStream(answers, body, keep=keep))
        items = ResponseItems()
        [reply] = await answers.replies(http, each=lambda event: list(items.add(event)))
        response = body.ended(reply.end, items.items)
        keep(response)
        return ModelResponse(response)

    @router.get("/v1/responses/{response_id}", response_model=Response)
    async def retrieve_response(response_id: str, http: Request) -> HttpResponse:
        """Return a response that is kept."""
        return ModelResponse(store.get(http.state.client, response_id).body)

    @router.delete("/v1/responses/{response_id}")
    async def delete_response(response_id: str, http: Request) -> Deleted:
        """Delete a response."""
        store.delete(http.state.client, response_id)
        return Deleted(id=response_id)

    return router


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response, and the conversation that ends with it."""

    body: Response
    messages: tuple[Message, ...]
    nbytes: int


class ResponseStore:
    """Keeps the responses used last. A key finds only its own."""

    def __init__(self, *, limit: int) -> None:
        """limit: bytes of text."""
        self._limit = limit
        self._nbytes = 0
        self._entries: OrderedDict[tuple[str, str], StoredResponse] = OrderedDict()

    def put(self, client: str, body: Response, messages: Sequence[Message]) -> None:
        """Keep a response; the least recently used ones make room."""
        nbytes = len(body.model_dump_json()) + sum(map(_size, messages))
        if nbytes > self._limit:
            return
        while self._nbytes + nbytes > self._limit:
            _, oldest = self._entries.popitem(last=False)
            self._nbytes -= oldest.nbytes
        self._entries[client, body.id] = StoredResponse(body, tuple(messages), nbytes)
        self._nbytes += nbytes

    def get(self, client: str, response_id: str) -> StoredResponse:
        """A stored response. Raises ApiError (404)."""
        found = self._entries.get((client, response_id))
        if found is None:
            raise ApiError(
                404,
                f"There is no response {response_id!r}, or no longer: send the whole input.",
                code="response_not_found",
            )
        self._entries.move_to_end((client, response_id))
        return found

    def delete(self, client: str, response_id: str) -> None:
        """Delete a response. Raises ApiError (404)."""
        self._nbytes -= self.get(client, response_id).nbytes
        del self._entries[client, response_id]


def _size(message: Message) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return 100 + len(message.content.encode()) + len((message.reasoning or "").encode()) + calls
