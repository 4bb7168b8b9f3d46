"""Servers with OpenAI's API: started, asked over HTTP, and compared with our engine."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from urllib.error import URLError
from urllib.request import urlopen

from openai import BadRequestError, OpenAI, OpenAIError
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from magistral_mlx.bench.cases import Case, Rates, prompt_text
from magistral_mlx.bench.recording import TimedOutput, joint_decode_rate
from magistral_mlx.errors import UserError
from magistral_mlx.text.tokenizer import Tokenizer

START_SECONDS = 120
OURS, MLX_LM_SERVER = "magistral-mlx", "mlx_lm.server"


@dataclass(slots=True)
class ServedAnswer:
    """A streamed answer: its text, when its pieces arrived, and the server's own counts."""

    output: TimedOutput = field(default_factory=TimedOutput)
    text: str = ""
    pieces: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Add a chunk that has just arrived."""
        usage = chunk.usage
        if usage is not None:
            details = usage.prompt_tokens_details
            self.prompt_tokens = usage.prompt_tokens
            self.cached_tokens = (details.cached_tokens or 0) if details else 0
            self.completion_tokens = usage.completion_tokens
        text = _text(chunk)
        if text:
            self.text += text
            self.pieces += 1
            self.output.marks.append((time.perf_counter(), self.pieces))


class ChatClient:
    """Asks one model of one server."""

    def __init__(self, url: str, *, model: str | None = None, api_key: str | None = None) -> None:
        """model: its id; None: the first that the server lists.

        Raises UserError when the server does not answer or lists no model.
        """
        self._client = OpenAI(base_url=url, api_key=api_key or "EMPTY", max_retries=0)
        self._model = model or self._first_model(url)

    def _first_model(self, url: str) -> str:
        try:
            models = self._client.models.list().data
        except OpenAIError as error:
            raise UserError(f"{url} does not answer as OpenAI's API does: {error}") from error
        if not models:
            raise UserError(f"{url} lists no model: load one there.")
        return models[0].id

    def ask(
        self,
        messages: list[ChatCompletionMessageParam],
        tokens: int,
        *,
        logit_bias: Mapping[int, int] | None = None,
        ignore_eos: bool = False,
    ) -> ServedAnswer:
        """A greedy answer of at most `tokens` tokens. Raises OpenAIError."""
        answer = ServedAnswer()
        chunks = self._client.chat.completions.create(
            model=self._model,
            messages=messages,
            max_tokens=tokens,
            temperature=0,
            logit_bias={str(token): bias for token, bias in (logit_bias or {}).items()},
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True} if ignore_eos else {},
        )
        for chunk in chunks:
            answer.add(chunk)
        return answer


class OpenAIContender:
    """Prompts are text of about as many tokens; rates are by the server's own counts."""

    def __init__(self, url: str, tokenizer: Tokenizer, *, api_key: str | None = None) -> None:
        """Raises UserError when no server answers."""
        self.name = url
        self._tokenizer = tokenizer
        self._client = ChatClient(url, api_key=api_key)

    def refuses(self, case: Case) -> str | None:
        """Its KV precision cannot be chosen by request."""
        return None if case.precision.bits is None else "its KV precision is chosen over there"

    def warm_up(self, case: Case) -> None:
        """Short answers on as many streams."""
        self.run(Case(32, case.streams, case.kv_bits, 16), seed=0)

    def run(self, case: Case, *, seed: int) -> Rates:
        """All streams at once, each on its own connection."""
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

    def _ask(self, text: str, tokens: int) -> ServedAnswer:
        """To the last token, if the server knows ignore_eos."""
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": text}]
        try:
            answer = self._client.ask(messages, tokens, ignore_eos=True)
        except BadRequestError:
            answer = self._client.ask(messages, tokens)
        if answer.pieces < 2:
            raise UserError(f"{self.name} sent {answer.pieces} pieces of text: too few to time.")
        return answer


def _text(chunk: ChatCompletionChunk) -> str:
    """Answer or reasoning; servers have two names for the latter."""
    if not chunk.choices:
        return ""
    delta = chunk.choices[0].delta
    extra = delta.model_extra or {}
    return str(delta.content or extra.get("reasoning_content") or extra.get("reasoning") or "")


def _rates(answers: list[ServedAnswer]) -> Rates:
    """Pieces are scaled to the tokens that the server counted: one may hold several."""
    for answer in answers:
        scale = (answer.completion_tokens or answer.pieces) / answer.pieces
        answer.output.marks = [(when, round(n * scale)) for when, n in answer.output.marks]
    outputs = [answer.output for answer in answers]
    first = max(output.wait for output in outputs)
    prompts = sum(answer.prompt_tokens for answer in answers)
    return Rates(
        prefill=prompts / first if prompts else None,
        decode=joint_decode_rate(outputs),
        first_token=first,
    )


@contextmanager
def served(name: str, folder: Path) -> Iterator[ChatClient]:
    """A client of our server or of `mlx_lm.server`, which runs in its own process, offline."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["magistral_mlx", "serve", "--alias", str(folder), "--no-page"]
    command = command if name == OURS else ["mlx_lm", "server"]
    command = [sys.executable, "-m", *command, "--model", str(folder), "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with (
        TemporaryFile() as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            if not _answers(f"http://127.0.0.1:{port}/health", process):
                log.seek(0)
                raise UserError(f"{name} did not start: {log.read()[-2_000:].decode()}")
            yield ChatClient(f"http://127.0.0.1:{port}/v1", model=str(folder))
        finally:
            process.terminate()


def _answers(url: str, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until the server is ready; False if it ended or took too long."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            with urlopen(url, timeout=5):
                return True
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    return False


def chat(system: str, *turns: str) -> list[ChatCompletionMessageParam]:
    """Messages: the system prompt, then questions and answers in turn."""
    messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": system}]
    for number, text in enumerate(turns):
        if number % 2:
            messages.append({"role": "assistant", "content": text})
        else:
            messages.append({"role": "user", "content": text})
    return messages
