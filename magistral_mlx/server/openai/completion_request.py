"""The body of POST /v1/completions: a prompt as it is, without a chat's template."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from magistral_mlx.api import Magistral
from magistral_mlx.engine.request import Request
from magistral_mlx.errors import RequestError
from magistral_mlx.server.answering.service import several
from magistral_mlx.server.fields.sampling_fields import SamplingFields
from magistral_mlx.server.fields.strict_model import No
from magistral_mlx.server.openai.chat_request import ResponseFormat, StreamOptions, answer_schema

Ids = Annotated[list[int], Field(min_length=1)]
Prompt = (
    str
    | Ids
    | Annotated[list[str], Field(min_length=1)]
    | Annotated[list[Ids], Field(min_length=1)]
)

MAX_TOKENS = 16
"""OpenAI's default for this route; null asks for what the window holds."""

MAX_COMPLETION_LOGPROBS = 20


class CompletionRequest(SamplingFields):
    """One prompt or several, as text (after the beginning token) or as token ids (as they are).

    Text is only text: control tokens that it names are not made of it.
    """

    model: str
    prompt: Prompt
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(MAX_TOKENS, ge=1)
    n: int | None = Field(None, ge=1)
    logprobs: int | None = Field(None, ge=0, le=MAX_COMPLETION_LOGPROBS)
    echo: No | None = None
    suffix: None = None
    best_of: int | None = Field(None, ge=1, le=1)
    response_format: ResponseFormat | None = None
    user: str | None = None

    @property
    def prompts(self) -> int:
        """How many prompts there are."""
        lists = not isinstance(self.prompt, str) and not isinstance(self.prompt[0], int)
        return len(self.prompt) if lists else 1

    def requests(self, model: Magistral) -> list[Request]:
        """What the engine is to do, prompt by prompt, the choices of each side by side."""
        if self.stream_options is not None and not self.stream:
            raise RequestError(
                "stream_options is for streams: set stream to true.", field="stream_options"
            )
        options = replace(
            self.options(),
            max_tokens=self.max_tokens,
            logprobs=self.logprobs,
            guidance=answer_schema(self.response_format),
        )
        requests: list[Request] = []
        for ids in self._ids(model):
            requests += several(model.raw_request(ids, options), self.n or 1)
        return requests

    def _ids(self, model: Magistral) -> list[list[int]]:
        if isinstance(self.prompt, str):
            return [_encoded(model, self.prompt)]
        ids: list[list[int]] = []
        single: list[int] = []
        for part in self.prompt:
            if isinstance(part, int):
                single.append(part)
            else:
                ids.append(_encoded(model, part) if isinstance(part, str) else part)
        return [single] if single else ids


def _encoded(model: Magistral, text: str) -> list[int]:
    return model.tokenizer.begin_ids + model.tokenizer.encode(text)
