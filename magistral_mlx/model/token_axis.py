"""The flat axis of a step's tokens: the segments of its sequences, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from magistral_mlx.kv.cache import KVCache


@dataclass(frozen=True, slots=True)
class Segment:
    """The tokens of one sequence in a step.

    length: number of tokens, from position `cache.length` on.
    logits: how many of the last of them need logits.
    """

    cache: KVCache
    length: int
    logits: int


@dataclass(frozen=True, slots=True)
class PlacedSegment:
    """A segment on the token axis.

    start: its first row. queries: how many of its last tokens need an output.
    """

    cache: KVCache
    start: int
    queries: int


@dataclass(frozen=True, slots=True)
class TokenAxis:
    """A step's tokens, as a layer sees them."""

    positions: mx.array  # (T,)
    segments: list[PlacedSegment]
    rows: mx.array | None = None  # (S,) the rows that need an output; None: all


def token_axis(segments: Sequence[Segment]) -> tuple[TokenAxis, TokenAxis]:
    """The token axis of a step for all layers but the last, and for the last.

    The last layer stores keys and values of all tokens, too, but returns only the rows that the
    head needs.
    """
    positions: list[int] = []
    rows: list[int] = []
    placed: list[PlacedSegment] = []
    last: list[PlacedSegment] = []
    for segment in segments:
        start, stop = len(positions), len(positions) + segment.length
        offset = segment.cache.length
        positions.extend(range(offset, offset + segment.length))
        rows.extend(range(stop - segment.logits, stop))
        placed.append(PlacedSegment(segment.cache, start, segment.length))
        last.append(PlacedSegment(segment.cache, start, segment.logits))
    at = mx.array(positions, dtype=mx.int32)
    needed = None if len(rows) == len(positions) else mx.array(rows, dtype=mx.int32)
    return TokenAxis(at, placed), TokenAxis(at, last, needed)


def advance(segments: Sequence[Segment]) -> None:
    """Count the segments' tokens, whose keys and values all layers have stored."""
    for segment in segments:
        segment.cache.advance(segment.length)
