"""Logit rules: what changes a sequence's logits before a token is drawn, in vLLM's order.

First bans, then the bias, then the repetition, frequency and presence penalties. Temperature and
the filters come after all of them (sampler.py).
"""

import math
from collections.abc import Iterable, Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from magistral_mlx.errors import RequestError
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.tokenizer import Tokenizer


def logit_rules(
    params: SamplingParams,
    prompt: Sequence[int],
    tokenizer: Tokenizer,
    *,
    min_tokens: int,
    guided: bool,
) -> "LogitRules | None":
    """The rules of a sequence; None if nothing changes its logits.

    Args:
        prompt: its ids, which the repetition penalty counts, too.
        min_tokens: tokens of output before an end token may be drawn.
        guided: whether a grammar limits the tokens.

    Raises RequestError when logit_bias has ids outside the vocabulary.
    """
    last = max(params.logit_bias, default=0)
    if last >= tokenizer.vocab_size:
        raise RequestError(
            f"logit_bias names the token id {last}; the vocabulary has "
            f"{tokenizer.vocab_size:,}: use ids of this checkpoint's tokenizer.",
            field="logit_bias",
        )
    if not (params.has_penalties or params.logit_bias or min_tokens or guided):
        return None
    return LogitRules(params, prompt, end_ids=tokenizer.end_ids, min_tokens=min_tokens)


class LogitRules:
    """The rules of one sequence. They need all tokens before the one to draw."""

    def __init__(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        *,
        end_ids: Iterable[int],
        min_tokens: int = 0,
    ) -> None:
        """min_tokens: the output cannot end before it has this many."""
        self._params = params
        self._prompt = prompt
        self._end_ids = list(end_ids)
        self._min_tokens = min_tokens
        # Made on first use, because only the engine's thread may make MLX arrays.
        self._bias: mx.array | None = None
        self._tokens: _TokenCounts | None = None

    def apply(
        self, logits: mx.array, output: Sequence[int], allowed: NDArray[np.bool_] | None = None
    ) -> mx.array:
        """The changed logits (1, vocab), in float32, for the token after this output.

        allowed: (vocab,) the tokens that a grammar allows next, at least one; None: all.
        """
        logits = logits.astype(mx.float32)
        if allowed is not None:
            logits = mx.where(mx.array(allowed), logits, -math.inf)
        # A grammar that allows only end tokens is complete.
        can_continue = allowed is None or np.count_nonzero(allowed) > allowed[self._end_ids].sum()
        if len(output) < self._min_tokens and can_continue:
            logits[:, mx.array(self._end_ids)] = -math.inf
        if self._params.logit_bias:
            logits = logits + self._bias_of(logits.shape[-1])
        if self._params.has_penalties:
            logits = self._penalised(logits, output)
        return logits

    def _bias_of(self, vocab: int) -> mx.array:
        if self._bias is None:
            bias = np.zeros(vocab, np.float32)
            for token, value in self._params.logit_bias.items():
                bias[token] = value
            self._bias = mx.array(bias)
        return self._bias

    def _penalised(self, logits: mx.array, output: Sequence[int]) -> mx.array:
        if self._tokens is None:
            self._tokens = _TokenCounts(self._prompt, logits.shape[-1])
        self._tokens.count(output)
        params, counts = self._params, mx.array(self._tokens.counts)
        if params.repetition_penalty != 1:
            factor = params.repetition_penalty
            punished = mx.where(logits > 0, logits / factor, logits * factor)
            logits = mx.where(mx.array(self._tokens.seen), punished, logits)
        logits = logits - params.frequency_penalty * counts
        return logits - params.presence_penalty * (counts > 0)


class _TokenCounts:
    """How often each token occurs in the output, and whether it occurs in prompt or output."""

    def __init__(self, prompt: Sequence[int], vocab: int) -> None:
        self.counts: NDArray[np.float32] = np.zeros(vocab, np.float32)
        self.seen: NDArray[np.bool_] = np.zeros(vocab, np.bool_)
        self.seen[list(prompt)] = True
        self._length = 0

    def count(self, output: Sequence[int]) -> None:
        """Count the tokens added since the last call."""
        for token in output[self._length :]:
            self.counts[token] += 1
            self.seen[token] = True
        self._length = len(output)
