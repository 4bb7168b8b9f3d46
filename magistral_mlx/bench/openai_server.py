"""`--compare URL`: any server with OpenAI's API, over HTTP."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from openai import BadRequestError, OpenAI, OpenAIError, Stream
from openai.types.chat import ChatCompletionChunk

from magistral_mlx.bench.cases import Case
from magistral_mlx.bench.contender import Rates
from magistral_mlx.bench.output import Output, decode_rate_if_any
from magistral_mlx.bench.prompts import prompt_text
from magistral_mlx.errors import UserError
from magistral_mlx.text.tokenizer import Tokenizer


@dataclass(slots=True)
class Answer:
    """One streamed answer: when its pieces came, and what the server counted."""

    output: Output
    prompt_tokens: int = 0
    pieces: int = 0
    completion_tokens: int = 0


class OpenAIContender:
    """Prompts are text of about as many tokens; the server's own count is what counts."""

    def __init__(self, url: str, tokenizer: Tokenizer, *, api_key: str | None = None) -> None:
        """Ask for the model's id. Raises UserError when nobody answers."""
        self.name = url
        self._tokenizer = tokenizer
        self._client = OpenAI(base_url=url, api_key=api_key or "EMPTY", max_retries=0)
        try:
            models = self._client.models.list().data
        except OpenAIError as error:
            raise UserError(f"{url} does not answer as OpenAI's API does: {error}") from error
        if not models:
            raise UserError(f"{url} lists no model: load one there.")
        self._model = models[0].id

    def refuses(self, case: Case) -> str | None:
        """The precision of its KV is its own affair."""
        return None if case.precision.bits is None else "its KV precision is chosen over there"

    def warm_up(self, case: Case) -> None:
        """Short answers on as many streams."""
        self.run(Case(32, case.streams, case.kv_bits, 16), seed=0)

    def run(self, case: Case, *, seed: int) -> Rates:
        """All streams at once, each on a connection of its own."""
        texts = [
            prompt_text(self._tokenizer, case.prompt, seed=seed * 1_000 + number)
            for number in range(case.streams)
        ]
        with ThreadPoolExecutor(case.streams) as pool:
            try:
                answers = list(pool.map(lambda text: self._ask(text, case.tokens), texts))
            except OpenAIError as error:
                raise UserError(f"{self.name} failed: {error}") from error
        return _rates(answers)

    def _ask(self, text: str, tokens: int) -> Answer:
        answer = Answer(Output(submitted=time.perf_counter()))
        for chunk in self._stream(text, tokens):
            if chunk.usage is not None:
                answer.prompt_tokens = chunk.usage.prompt_tokens
                answer.completion_tokens = chunk.usage.completion_tokens
            if chunk.choices and _has_text(chunk):
                answer.pieces += 1
                answer.output.marks.append((time.perf_counter(), answer.pieces))
        if len(answer.output.marks) < 2:
            raise UserError(f"{self.name} sent {answer.pieces} pieces of text: too few to time.")
        return answer

    def _stream(self, text: str, tokens: int) -> Stream[ChatCompletionChunk]:
        """Greedy, to the last token where the server knows how to ignore the end."""
        try:
            return self._create(text, tokens, {"ignore_eos": True})
        except BadRequestError:
            return self._create(text, tokens, {})

    def _create(
        self, text: str, tokens: int, extra: dict[str, object]
    ) -> Stream[ChatCompletionChunk]:
        return self._client.chat.completions.create(
            model=self._model,
            messages=[{"role": "user", "content": text}],
            max_tokens=tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=extra,
        )


def _has_text(chunk: ChatCompletionChunk) -> bool:
    """Reasoning is text too, under either of the names that servers have for it."""
    delta = chunk.choices[0].delta
    extra = delta.model_extra or {}
    return bool(delta.content or extra.get("reasoning_content") or extra.get("reasoning"))


def _rates(answers: list[Answer]) -> Rates:
    """Pieces are scaled to the tokens that the server counted: one may hold several."""
    for answer in answers:
        scale = (answer.completion_tokens or answer.pieces) / answer.pieces
        answer.output.marks = [(when, round(n * scale)) for when, n in answer.output.marks]
    outputs = [answer.output for answer in answers]
    first = max(output.first - output.submitted for output in outputs)
    prompts = sum(answer.prompt_tokens for answer in answers)
    return Rates(
        prefill=prompts / first if prompts else None,
        decode=decode_rate_if_any(outputs),
        first_token=first,
    )
