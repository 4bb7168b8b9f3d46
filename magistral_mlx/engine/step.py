"""One forward of the model over all scheduled tokens: dispatched first, read a step later.

While the device works on one step, the one before it is read. So when a token turns out to end
its sequence, to need the reasoning closed, or to be drawn again, the next step has already been
sent on; what it drew for that sequence is stale and does not count.

Rules that change a sequence's logits need all tokens before them. So the forward of a step with
such a sequence is sent on as ever, with tokens that nobody has read yet, and its tokens are drawn
when the step before has been read: while the device is still at work on the forward.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import cast

import mlx.core as mx

from magistral_mlx.engine.scheduler import Share
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.events import TokenLogprob
from magistral_mlx.kv.cache import KVCache
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.sampling.log_probabilities import RowLogprobs, row_logprobs
from magistral_mlx.sampling.sampler import Draw, Sampled, Sampler, sample_full


@dataclass(slots=True)
class Step:
    """A step on its way through the device.

    lengths: tokens that each sequence of `shares` has KV for after the step.
    drawing: the sequences that draw a token, one for each row of `logits` (S, vocab).
    outputs: what to wait for.
    drawn: None until the tokens are drawn.
    stale: the id() of every sequence whose token does not count.
    """

    sampler: Sampler
    shares: Many[Share]
    lengths: list[int]
    drawing: list[Sequence]
    logits: mx.array
    outputs: list[mx.array]
    drawn: "_Drawn | None" = None
    stale: set[int] = field(default_factory=set)

    def counts(self, sequence: Sequence) -> bool:
        """Whether what is drawn for a sequence will be one of its tokens."""
        return not sequence.finished and id(sequence) not in self.stale


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The tokens of a step, lazily.

    logits: (S, vocab) that they are drawn from; logprobs: by row, where they are asked for.
    """

    logits: mx.array
    draws: list[Draw]
    sampled: Sampled
    logprobs: dict[int, RowLogprobs]

    @property
    def outputs(self) -> list[mx.array]:
        arrays = [array for row in self.logprobs.values() for array in row.arrays]
        arrays.append(self.sampled.tokens)
        return arrays if self.sampled.exact is None else [*arrays, self.sampled.exact]


def dispatch(decoder: Decoder, sampler: Sampler, shares: Many[Share], before: Step | None) -> Step:
    """Start a step. Tokens that `before` is still drawing are taken from it on the device."""
    tokens = _tokens(shares, before)
    segments = [
        Segment(_cache(share.sequence), max(1, share.tokens), int(share.sample)) for share in shares
    ]
    logits = decoder(tokens, segments)
    lengths = [_cache(share.sequence).length for share in shares]
    drawing = [share.sequence for share in shares if share.sample]
    stored = [_cache(share.sequence).stored for share in shares if not share.sample]
    step = Step(sampler, shares, lengths, drawing, logits, stored)
    has_rules = any(sequence.has_rules for sequence in drawing)
    if has_rules:
        mx.async_eval([logits, *stored])
    if before is None or not has_rules:
        _draw(step)
    return step


def settle(step: Step, *, after: Step | None) -> None:
    """Wait for a step, hand its tokens to their sequences, and mark in `after` what is stale.

    Then `after` draws its tokens, where they hang on those of this step.
    """
    tokens, exact = _read(step)
    for share, length in zip(step.shares, step.lengths, strict=True):
        share.sequence.prefilled(length)
    for row, sequence in enumerate(step.drawing):
        if not step.counts(sequence):
            continue
        token = tokens[row] if exact[row] else _draw_in_full(step, row)
        unchanged = token == tokens[row]
        logprob = _logprob(step, row, token, redrawn=not unchanged)
        _accept(sequence, token, logprob, unchanged=unchanged, after=after)
    if after is not None and after.drawing and after.drawn is None:
        _draw(after)


def _draw(step: Step) -> None:
    """Start to draw the tokens of a step; the rules of its sequences get to see its logits."""
    if step.drawing:
        lengths = {id(s.sequence): n for s, n in zip(step.shares, step.lengths, strict=True)}
        draws = [
            Draw(sequence.request.options.sampling, sequence.seed, lengths[id(sequence)])
            for sequence in step.drawing
        ]
        logits = _ruled(step)
        sampled = step.sampler.sample(logits, draws)
        logprobs = {
            row: row_logprobs(step.logits[row : row + 1], sampled.tokens[row : row + 1])
            for row, sequence in enumerate(step.drawing)
            if sequence.request.options.logprobs is not None
        }
        step.drawn = _Drawn(logits, draws, sampled, logprobs)
        step.outputs += step.drawn.outputs
    mx.async_eval(step.outputs)


def _ruled(step: Step) -> mx.array:
    """The logits as the rules of the sequences change them: (S, vocab)."""
    ruled = {
        row: sequence.ruled(step.logits[row : row + 1])
        for row, sequence in enumerate(step.drawing)
        if sequence.has_rules and step.counts(sequence)
    }
    if not ruled:
        return step.logits
    rows = range(len(step.drawing))
    return mx.concatenate(
        [ruled[row] if row in ruled else step.logits[row : row + 1] for row in rows]
    )


def _draw_in_full(step: Step, row: int) -> int:
    assert step.drawn is not None
    return sample_full(step.drawn.logits[row], step.drawn.draws[row])


def _logprob(step: Step, row: int, token: int, *, redrawn: bool) -> TokenLogprob | None:
    assert step.drawn is not None
    lazy = step.drawn.logprobs.get(row)
    return None if lazy is None else step.drawing[row].logprob_of(lazy, token, redrawn=redrawn)


def _tokens(shares: Many[Share], before: Step | None) -> mx.array:
    """(T,) ids of all shares, one after the other."""
    if before is not None and before.drawn is not None and _same_rows(shares, before):
        return before.drawn.sampled.tokens
    return mx.concatenate([_share_tokens(share, before) for share in shares])


def _same_rows(shares: Many[Share], before: Step) -> bool:
    """Whether a step decodes just what the step before it draws: then nothing is copied."""
    return len(shares) == len(before.drawing) and all(
        share.tokens == 0 and share.sequence is other
        for share, other in zip(shares, before.drawing, strict=True)
    )


def _share_tokens(share: Share, before: Step | None) -> mx.array:
    if share.tokens:
        start = _cache(share.sequence).length
        return mx.array(share.sequence.ids[start : start + share.tokens])
    assert before is not None
    assert before.drawn is not None
    row = next(i for i, other in enumerate(before.drawing) if other is share.sequence)
    return before.drawn.sampled.tokens[row : row + 1]


def _read(step: Step) -> tuple[list[int], list[bool]]:
    mx.eval(step.outputs)
    if step.drawn is None:
        return [], []
    sampled = step.drawn.sampled
    tokens = cast("list[int]", sampled.tokens.tolist())
    if sampled.exact is None:
        return tokens, [True] * len(tokens)
    return tokens, cast("list[bool]", sampled.exact.tolist())


def _accept(
    sequence: Sequence,
    token: int,
    logprob: TokenLogprob | None,
    *,
    unchanged: bool,
    after: Step | None,
) -> None:
    cache = sequence.cache  # None when the sequence was paused after the step was sent
    if not unchanged and cache is not None and cache.length > len(sequence.ids):
        cache.trim(len(sequence.ids))  # the next step has run the token that is not to be
    known = len(sequence.ids) + 1
    sequence.accept(token, logprob)
    if after is not None and (not unchanged or len(sequence.ids) > known):
        after.stale.add(id(sequence))


def _cache(sequence: Sequence) -> KVCache:
    assert sequence.cache is not None
    return sequence.cache
