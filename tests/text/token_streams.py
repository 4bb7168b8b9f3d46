"""Ways to cut one text into tokens, for tests of everything that reads a stream of them."""

from itertools import pairwise

from mistral_common.protocol.instruct.messages import (
    AssistantMessage,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from mistral_common.tokens.tokenizers.base import Tokenized
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from magistral_mlx.events import TokenLogprob
from magistral_mlx.text.output_text import Delta, OutputEvents, OutputToken, TextDecoder, TextEvent
from magistral_mlx.text.reasoning import OutputSplitter, OutputState
from magistral_mlx.text.tokenizer import Tokenizer

Oracle = MistralTokenizer[UserMessage, AssistantMessage, ToolMessage, SystemMessage, Tokenized]


def byte_ids(data: bytes) -> list[int]:
    """One token a byte; Tekken has them after its 1,000 special tokens."""
    return [1_000 + byte for byte in data]


def cut_ids(tokenizer: Tokenizer, data: bytes, cuts: set[int]) -> list[int]:
    """Each slice between two cuts as its usual tokens, or byte by byte where it is no text."""
    inner = (cut for cut in cuts if 0 < cut < len(data))
    ids: list[int] = []
    for start, end in pairwise(sorted({0, len(data), *inner})):
        try:
            ids += tokenizer.encode(data[start:end].decode())
        except UnicodeDecodeError:
            ids += byte_ids(data[start:end])
    return ids


class OutputParser(OutputSplitter):
    """The splitter with its bytes decoded: ids in, text by kind out."""

    def __init__(
        self, tokenizer: Tokenizer, *, state: OutputState = "auto", tool_calls: bool = True
    ) -> None:
        super().__init__(tokenizer, state=state, tool_calls=tool_calls)
        self._decoder = TextDecoder()

    def push_text(self, token: int) -> list[Delta]:
        return self._decoder.decode(self.push(token))

    def finish_text(self) -> list[Delta]:
        return self._decoder.decode(self.finish())


class TokenText:
    """The splitter and the text of one output together, as the engine joins them."""

    def __init__(
        self, tokenizer: Tokenizer, *, state: OutputState = "auto", stop: tuple[str, ...] = ()
    ) -> None:
        self._splitter = OutputSplitter(tokenizer, state=state)
        self._text = OutputEvents(stop=stop)

    @property
    def stop_string(self) -> str | None:
        return self._text.stop_string

    def push(self, token: int, *, logprob: TokenLogprob | None = None) -> list[TextEvent]:
        before = self._splitter.state
        pieces = self._splitter.push(token)
        return self._text.push(OutputToken(pieces, before, self._splitter.state, logprob))

    def finish(self) -> list[TextEvent]:
        return self._text.finish(self._splitter.finish())
