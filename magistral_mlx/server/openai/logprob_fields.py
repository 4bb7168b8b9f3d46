"""Log-probabilities in OpenAI's shapes."""

from collections.abc import Sequence

from openai.types.chat import ChatCompletionTokenLogprob
from openai.types.chat.chat_completion_token_logprob import TopLogprob

from magistral_mlx.events import TokenLogprob


def chat_logprobs(logprobs: Sequence[TokenLogprob]) -> list[ChatCompletionTokenLogprob]:
    """Those of a piece of content. A token's bytes may be a part of a character only."""
    return [
        ChatCompletionTokenLogprob(
            token=token_text(one),
            bytes=list(one.text),
            logprob=one.logprob,
            top_logprobs=[
                TopLogprob(token=token_text(top), bytes=list(top.text), logprob=top.logprob)
                for top in one.top
            ],
        )
        for one in logprobs
    ]


def token_text(logprob: TokenLogprob) -> str:
    """A token as text; parts of characters are written as OpenAI writes them, in hexadecimal."""
    try:
        return logprob.text.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in logprob.text)
