"""POST /tokenize and /detokenize."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from magistral_mlx.errors import RequestError
from magistral_mlx.server.answering.service import Service
from magistral_mlx.server.errors import ERRORS
from magistral_mlx.server.fields.chat_messages import ChatMessageFields
from magistral_mlx.server.fields.strict_model import StrictModel
from magistral_mlx.server.fields.tool_fields import OptionalTools
from magistral_mlx.text.conversation import build_prompt


class TokenizeRequest(StrictModel):
    """Text, as it is; or messages, with template and system prompt, as a chat sends them."""

    content: str | None = None
    messages: list[ChatMessageFields] | None = None
    tools: OptionalTools = None
    add_special: bool = False
    """Put the beginning token before the text: <s>, or whatever the tokenizer has."""


class Tokens(BaseModel):
    """The ids, how many they are, and how many the window holds."""

    tokens: list[int]
    count: int
    max_model_len: int


class DetokenizeRequest(StrictModel):
    """Token ids; control tokens give no text."""

    tokens: list[Annotated[int, Field(ge=0)]]


class Text(BaseModel):
    """What the ids spell."""

    content: str


def token_routes(service: Service) -> APIRouter:
    """Token ids by mistral-common, as the model sees them."""
    router = APIRouter(responses={**ERRORS}, tags=["server"])

    @router.post("/tokenize")
    def tokenize(asked: TokenizeRequest) -> Tokens:
        """Text or messages to ids."""
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

    @router.post("/detokenize")
    def detokenize(asked: DetokenizeRequest) -> Text:
        """Ids to text."""
        tokenizer = service.slot.get().tokenizer
        outside = [token for token in asked.tokens if token >= tokenizer.vocab_size]
        if outside:
            raise RequestError(
                f"The token id {outside[0]} is outside the vocabulary of {tokenizer.vocab_size:,}."
            )
        return Text(content=tokenizer.decode(asked.tokens))

    return router
