"""The flat axis of a step's tokens: which are which sequence's, and where they stand in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from magistral_mlx.kv.cache import KVCache


@dataclass(frozen=True, slots=True)
class Segment:
    """The tokens that one sequence brings to a step.

    length: how many, from the position `cache.length` on.
    logits: how many of the last of them need logits.
    """

    cache: KVCache
    length: int
    logits: int


@dataclass(frozen=True, slots=True)
class Span:
    """Where a segment lies on the token axis; no output is needed before `query`."""

    cache: KVCache
    start: int
    query: int
    stop: int


@dataclass(frozen=True, slots=True)
class TokenAxis:
    """What layers need to know of a step's tokens."""

    positions: mx.array  # (T,)
    spans: list[Span]
    last_spans: list[Span]
    rows: mx.array | None  # (S,) rows that reach the head; None for all


def advance(segments: Sequence[Segment]) -> None:
    """All layers have stored the segments' keys and values."""
    for segment in segments:
        segment.cache.advance(segment.length)


def token_axis(segments: Sequence[Segment]) -> TokenAxis:
    """The segments' tokens one after the other."""
    positions: list[int] = []
    rows: list[int] = []
    spans: list[Span] = []
    last_spans: list[Span] = []
    start = 0
    for segment in segments:
        stop = start + segment.length
        first = stop - segment.logits
        offset = segment.cache.length
        positions.extend(range(offset, offset + segment.length))
        rows.extend(range(first, stop))
        spans.append(Span(segment.cache, start, start, stop))
        last_spans.append(Span(segment.cache, start, first, stop))
        start = stop
    chosen = None if len(rows) == start else mx.array(rows, dtype=mx.int32)
    return TokenAxis(mx.array(positions, dtype=mx.int32), spans, last_spans, chosen)
