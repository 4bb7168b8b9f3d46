"""KV that a sequence need not compute: another running one has it, or it is kept from before."""

from magistral_mlx.engine.scheduler import Scheduler, shared_tokens
from magistral_mlx.engine.sequence import Sequence
from magistral_mlx.kv.cache import KVCache
from magistral_mlx.kv.prefix_cache import LEAST_TOKENS, PrefixCache


def known_beginning(
    sequence: Sequence, scheduler: Scheduler, prefixes: PrefixCache
) -> KVCache | None:
    """KV of the longest beginning that is stored or that a running sequence has."""
    ids, precision = sequence.ids, sequence.precision
    running = [s for s in scheduler.running if s is not sequence and _has(s, precision)]
    lengths = [_reusable(ids, other) for other in running]
    best = max(lengths, default=0)
    if best > max(LEAST_TOKENS, prefixes.longest_prefix(ids, precision=precision)):
        cache = running[lengths.index(best)].cache
        return cache.copy(best) if cache is not None else None
    others = [other.ids for other in scheduler.waiting if other.precision == precision]
    return prefixes.take(
        ids,
        others=others,
        cut=sequence.request.options.priority == "idle",
        brief=len(scheduler.running) > 1,
        precision=precision,
    )


def _has(sequence: Sequence, precision: object) -> bool:
    return sequence.cache is not None and sequence.precision == precision


def _reusable(ids: list[int], other: Sequence) -> int:
    """Tokens of these ids that another sequence has KV for; the last is always left to run."""
    assert other.cache is not None
    return min(shared_tokens(ids, other.ids), other.cache.length, len(ids) - 1)
