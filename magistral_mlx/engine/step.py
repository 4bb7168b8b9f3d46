"""One forward pass over all scheduled tokens: dispatched first, read a step later.

docs/architecture.md, "One step", says what reading a step can change in the next one.
"""

from dataclasses import dataclass, field
from typing import cast

import mlx.core as mx

from magistral_mlx.engine.scheduler import ScheduledSegment
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.events import TokenLogprob
from magistral_mlx.kv.cache import KVCache
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.sampling.log_probabilities import RowLogprobs, row_logprobs
from magistral_mlx.sampling.sampler import Draw, Sampled, Sampler, sample_full


@dataclass(slots=True)
class Step:
    """A dispatched step.

    lengths: for each of `segments`, the tokens that its sequence has KV for after the step.
    drawing: the sequences that draw a token, one for each row of `logits` (S, vocab).
    outputs: the arrays to wait for.
    drawn: None until the tokens are drawn.
    stale: the id() of every sequence whose token does not count.
    """

    sampler: Sampler
    segments: list[ScheduledSegment]
    lengths: list[int]
    drawing: list[Sequence]
    logits: mx.array
    outputs: list[mx.array]
    drawn: "_Drawn | None" = None
    stale: set[int] = field(default_factory=set)

    def counts(self, sequence: Sequence) -> bool:
        """Whether the token drawn for a sequence will be one of its tokens."""
        return not sequence.finished and id(sequence) not in self.stale


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The drawn tokens of a step, not evaluated yet.

    logits: (S, vocab) that they are drawn from; logprobs: by row, if requested.
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


def dispatch(
    decoder: Decoder, sampler: Sampler, segments: list[ScheduledSegment], before: Step | None
) -> Step:
    """Start a step. Tokens that `before` has not drawn yet are taken from it on the device."""
    caches = [_cache(segment.sequence) for segment in segments]
    scheduled = list(zip(segments, caches, strict=True))
    logits = decoder(
        _tokens(segments, before),
        [Segment(cache, max(1, each.tokens), int(each.sample)) for each, cache in scheduled],
    )
    lengths = [cache.length for cache in caches]
    drawing = [segment.sequence for segment in segments if segment.sample]
    stored = [cache.stored for each, cache in scheduled if not each.sample]
    step = Step(sampler, segments, lengths, drawing, logits, stored)
    has_rules = any(sequence.has_rules for sequence in drawing)
    if has_rules:
        mx.async_eval([logits, *stored])
    if before is None or not has_rules:
        _draw(step)
    return step


def settle(step: Step, *, after: Step | None) -> None:
    """Wait for a step, hand its tokens to their sequences, and mark in `after` what is stale.

    Then `after` draws its tokens, if they depend on those of this step.
    """
    tokens, exact = _read(step)
    for segment, length in zip(step.segments, step.lengths, strict=True):
        segment.sequence.prefilled(length)
    for row, sequence in enumerate(step.drawing):
        if not step.counts(sequence):
            continue
        assert step.drawn is not None
        token = tokens[row]
        if not exact[row]:
            token = sample_full(step.drawn.logits[row], step.drawn.draws[row])
        unchanged = token == tokens[row]
        logprob = _logprob(step, row, token, redrawn=not unchanged)
        _accept(sequence, token, logprob, unchanged=unchanged, after=after)
    if after is not None and after.drawing and after.drawn is None:
        _draw(after)


def _draw(step: Step) -> None:
    """Start to draw the tokens of a step, after the rules have changed its logits."""
    if step.drawing:
        lengths = {id(s.sequence): n for s, n in zip(step.segments, step.lengths, strict=True)}
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
    """The logits after the rules of their sequences: (S, vocab)."""
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


def _logprob(step: Step, row: int, token: int, *, redrawn: bool) -> TokenLogprob | None:
    assert step.drawn is not None
    lazy = step.drawn.logprobs.get(row)
    return None if lazy is None else step.drawing[row].logprob_of(lazy, token, redrawn=redrawn)


def _tokens(segments: list[ScheduledSegment], before: Step | None) -> mx.array:
    """(T,) ids of all segments, one after another."""
    if before is not None and before.drawn is not None and _same_rows(segments, before):
        return before.drawn.sampled.tokens
    return mx.concatenate([_segment_tokens(segment, before) for segment in segments])


def _same_rows(segments: list[ScheduledSegment], before: Step) -> bool:
    """Whether a step decodes exactly what the step before draws: then nothing is copied."""
    return len(segments) == len(before.drawing) and all(
        segment.tokens == 0 and segment.sequence is other
        for segment, other in zip(segments, before.drawing, strict=True)
    )


def _segment_tokens(segment: ScheduledSegment, before: Step | None) -> mx.array:
    if segment.tokens:
        start = _cache(segment.sequence).length
        return mx.array(segment.sequence.ids[start : start + segment.tokens])
    assert before is not None
    assert before.drawn is not None
    row = next(i for i, other in enumerate(before.drawing) if other is segment.sequence)
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
        cache.trim(len(sequence.ids))  # the next step has run the wrong token
    known = len(sequence.ids) + 1
    sequence.accept(token, logprob)
    if after is not None and (not unchanged or len(sequence.ids) > known):
        after.stale.add(id(sequence))


def _cache(sequence: Sequence) -> KVCache:
    assert sequence.cache is not None
    return sequence.cache
