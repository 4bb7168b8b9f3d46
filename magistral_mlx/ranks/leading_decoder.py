"""Rank 0's decoder: what it runs, the other ranks run too."""

from collections.abc import Sequence

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.kv.cache import KVCache, kv_precision
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.ranks.command_log import CommandLog, LedCache, LedQuantisedCache


class LeadingDecoder(Decoder):
    """A Decoder whose steps the other ranks join: filled by `load_shard`."""

    def __init__(self, config: ModelConfig, log: CommandLog, group: mx.distributed.Group) -> None:
        """config: of the whole model."""
        super().__init__(config)
        self._log = log
        self._group = group

    def __call__(self, tokens: mx.array, segments: Sequence[Segment]) -> mx.array:
        """As Decoder; the token ids reach the other ranks on the device, read or not."""
        self._log.write_step(segments)
        shared = mx.distributed.all_sum(tokens.astype(mx.int32), group=self._group)
        return super().__call__(shared, segments)

    def make_cache(self, *, bits: int | None = None, start: int = 0) -> KVCache:
        """As Decoder.make_cache; the other ranks make theirs."""
        config, precision = self.config, kv_precision(bits, start=start)
        if precision.bits is None:
            return LedCache(config.num_hidden_layers).enter(self._log)
        cache = LedQuantisedCache(config.num_hidden_layers, config.head_dim, precision)
        return cache.enter(self._log)

    def make_filled_cache(self, tokens: int) -> KVCache:
        """As Decoder.make_filled_cache, on all ranks."""
        cache = super().make_filled_cache(tokens)
        assert isinstance(cache, LedCache)
        self._log.write("fill", cache.number, tokens)
        return cache
