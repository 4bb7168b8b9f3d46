"""Routes of our own: /health, /metrics, /tokenize and /detokenize."""

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from magistral_mlx.errors import RequestError
from magistral_mlx.server.answering.errors import ERRORS
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.fields.chat_messages import ChatMessageFields
from magistral_mlx.server.fields.strict_model import Items, StrictModel
from magistral_mlx.server.fields.tool_fields import OptionalTools
from magistral_mlx.server.layers.body import JsonRoute
from magistral_mlx.text.conversation import build_prompt


class Health(BaseModel):
    """The state of the server."""

    status: Literal["ok", "loading", "closing", "dead"]


class TokenizeRequest(StrictModel):
    """Text as it is, or messages with template and system prompt, as in a chat."""

    content: str | None = None
    messages: Items[ChatMessageFields] | None = None
    tools: OptionalTools = None
    add_special: bool = False
    """Put the tokenizer's beginning token, such as <s>, before the text."""


class Tokens(BaseModel):
    """Token ids, their number, and the window."""

    tokens: list[int]
    count: int
    max_model_len: int


class DetokenizeRequest(StrictModel):
    """Token ids; control tokens become no text."""

    tokens: Items[Annotated[int, Field(ge=0)]]


class DetokenizedText(BaseModel):
    """The text of token ids."""

    content: str


def own_routes(service: Service) -> APIRouter:
    """For load balancers and Prometheus, and for looking at token ids."""
    router = APIRouter(route_class=JsonRoute, tags=["server"])

    @router.get("/health", responses={503: {"model": Health}})
    async def health(response: Response) -> Health:
        """Return 200 while the model answers, and 503 while it loads, closes or is dead."""
        state = service.slot.state
        response.status_code = 200 if state == "ok" else 503
        return Health(status=state)

    @router.get("/metrics", response_class=PlainTextResponse, responses={401: ERRORS[401]})
    async def metrics() -> Response:
        """Return figures in Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @router.post("/tokenize", responses={**ERRORS})
    def tokenize(asked: TokenizeRequest) -> Tokens:
        """Turn text or messages into token ids, by mistral-common."""
        model = service.slot.get()
        if (asked.content is None) == (asked.messages is None):
            raise RequestError("Give either content or messages.")
        if asked.messages is not None:
            turns = [fields.message() for fields in asked.messages]
            tools = [tool.function.tool() for tool in asked.tools or ()]
            ids = build_prompt(model.tokenizer, turns, tools=tools).ids
        else:
            begin = model.tokenizer.begin_ids if asked.add_special else []
            ids = begin + model.tokenizer.encode(asked.content or "")
        return Tokens(tokens=ids, count=len(ids), max_model_len=model.window)

    @router.post("/detokenize", responses={**ERRORS})
    def detokenize(asked: DetokenizeRequest) -> DetokenizedText:
        """Turn token ids into text."""
        tokenizer = service.slot.get().tokenizer
        largest = max(asked.tokens, default=0)
        if largest >= tokenizer.vocab_size:
            raise RequestError(
                f"The token id {largest} is outside the vocabulary of {tokenizer.vocab_size:,}."
            )
        return DetokenizedText(content=tokenizer.decode(asked.tokens))

    return router
