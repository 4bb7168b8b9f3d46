"""Log-probabilities of drawn tokens and of their alternatives.

They are the model's: computed before penalties, bias, grammar and temperature, as OpenAI and vLLM
report them by default.
"""

from dataclasses import dataclass
from typing import cast

import mlx.core as mx

from magistral_mlx.events import TokenLogprob
from magistral_mlx.sampling.sampler import largest
from magistral_mlx.text.tokenizer import Tokenizer

MAX_LOGPROBS = 20
"""OpenAI's limit of top_logprobs."""


@dataclass(frozen=True, slots=True)
class RowLogprobs:
    """Lazy results for one row of logits, to be evaluated with its token.

    logits: (1, vocab) of the model; total: (1, 1) their log-sum-exp.
    drawn: (1, 1) log-probability of the token as first drawn.
    ids, best: (1, n) the most likely tokens in falling order; n is at most 20.
    """

    logits: mx.array
    total: mx.array
    drawn: mx.array
    ids: mx.array
    best: mx.array

    @property
    def arrays(self) -> list[mx.array]:
        """The arrays to evaluate."""
        return [self.total, self.drawn, self.ids, self.best]

    def of(self, token: int, *, redrawn: bool) -> float:
        """The log-probability of the final token; waits for the device if it was redrawn."""
        if redrawn:
            return cast("float", (self.logits[:, token] - self.total[:, 0]).item())
        return cast("float", self.drawn.item())


def row_logprobs(logits: mx.array, token: mx.array) -> RowLogprobs:
    """Log-probabilities of one row (1, vocab) and of the lazy token (1,) that is drawn from it."""
    logits = logits.astype(mx.float32)
    total = mx.logsumexp(logits, axis=-1, keepdims=True)
    drawn = mx.take_along_axis(logits, token[:, None], axis=-1) - total
    # Always the same number, so that the order of ties does not depend on the request.
    ids, best = largest(logits, min(MAX_LOGPROBS, logits.shape[-1]))
    return RowLogprobs(logits, total, drawn, ids, best - total)


def read_logprobs(
    row: RowLogprobs, token: int, *, alternatives: int, redrawn: bool, tokenizer: Tokenizer
) -> TokenLogprob:
    """The evaluated results for the final token, with the most likely `alternatives`."""
    ids = cast("list[int]", row.ids[0].tolist())[:alternatives]
    best = cast("list[float]", row.best[0].tolist())[:alternatives]
    top = [TokenLogprob(i, tokenizer.token_bytes(i), p) for i, p in zip(ids, best, strict=True)]
    logprob = row.of(token, redrawn=redrawn)
    return TokenLogprob(token, tokenizer.token_bytes(token), logprob, tuple(top))
