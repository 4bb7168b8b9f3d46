"""One forward of the model over all scheduled tokens: dispatched first, read a step later.

While the device works on one step, the one before it is read. So when a token turns out to end
its sequence, to need the reasoning closed, or to be drawn again, the next step has already been
sent on; what it drew for that sequence is stale and does not count.
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import cast

import mlx.core as mx

from magistral_mlx.kv_cache import KVCache
from magistral_mlx.model import Decoder, Segment
from magistral_mlx.sampling import Draw, Sampled, sample, sample_full
from magistral_mlx.scheduler import Share
from magistral_mlx.sequence import Sequence


@dataclass(slots=True)
class Step:
    """A step on its way through the device.

    drawing: the sequences that draw a token, one for each row of `logits` (S, vocab).
    lengths: tokens that each sequence of `shares` has KV for after the step.
    outputs: what to wait for.
    stale: the id() of every sequence whose token does not count.
    """

    shares: Many[Share]
    lengths: list[int]
    drawing: list[Sequence]
    draws: list[Draw]
    logits: mx.array
    sampled: Sampled | None
    outputs: list[mx.array]
    stale: set[int] = field(default_factory=set)


def dispatch(decoder: Decoder, shares: Many[Share], before: Step | None) -> Step:
    """Start a step. Tokens that `before` is still drawing are taken from it on the device."""
    tokens = _tokens(shares, before)
    segments = [
        Segment(_cache(share.sequence), max(1, share.tokens), int(share.sample)) for share in shares
    ]
    logits = decoder(tokens, segments)
    lengths = [_cache(share.sequence).length for share in shares]
    drawing = [share.sequence for share in shares if share.sample]
    draws = [
        Draw(sequence.request.sampling, sequence.seed, _cache(sequence).length)
        for sequence in drawing
    ]
    sampled = sample(logits, draws) if draws else None
    outputs = [] if sampled is None else [sampled.tokens]
    if sampled is not None and sampled.exact is not None:
        outputs.append(sampled.exact)
    outputs += [_cache(share.sequence).stored for share in shares if not share.sample]
    mx.async_eval(outputs)
    return Step(shares, lengths, drawing, draws, logits, sampled, outputs)


def settle(step: Step, *, after: Step | None) -> None:
    """Wait for a step, hand its tokens to their sequences, and mark in `after` what is stale."""
    tokens, exact = _read(step)
    for share, length in zip(step.shares, step.lengths, strict=True):
        share.sequence.prefilled(length)
    for row, sequence in enumerate(step.drawing):
        if sequence.finished or id(sequence) in step.stale:
            continue
        token = tokens[row] if exact[row] else sample_full(step.logits[row], step.draws[row])
        _accept(sequence, token, unchanged=token == tokens[row], after=after)


def _tokens(shares: Many[Share], before: Step | None) -> mx.array:
    """(T,) ids of all shares, one after the other."""
    if before is not None and before.sampled is not None and _same_rows(shares, before):
        return before.sampled.tokens
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
    assert before.sampled is not None
    row = next(i for i, other in enumerate(before.drawing) if other is share.sequence)
    return before.sampled.tokens[row : row + 1]


def _read(step: Step) -> tuple[list[int], list[bool]]:
    mx.eval(step.outputs)
    if step.sampled is None:
        return [], []
    tokens = cast("list[int]", step.sampled.tokens.tolist())
    if step.sampled.exact is None:
        return tokens, [True] * len(tokens)
    return tokens, cast("list[bool]", step.sampled.exact.tolist())


def _accept(sequence: Sequence, token: int, *, unchanged: bool, after: Step | None) -> None:
    cache = sequence.cache  # None when the sequence was paused after the step was sent
    if not unchanged and cache is not None and cache.length > len(sequence.ids):
        cache.trim(len(sequence.ids))  # the next step has run the token that is not to be
    known = len(sequence.ids) + 1
    sequence.accept(token)
    if after is not None and (not unchanged or len(sequence.ids) > known):
        after.stale.add(id(sequence))


def _cache(sequence: Sequence) -> KVCache:
    assert sequence.cache is not None
    return sequence.cache
