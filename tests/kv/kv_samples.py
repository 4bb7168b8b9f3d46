"""KV without a model, and stores that keep it."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.kv.cache import KVCache, KVPrecision
from magistral_mlx.kv.disk.file import Rows
from magistral_mlx.kv.disk.store import KVLayout, KVStore
from magistral_mlx.kv.quantised import QuantisedKVCache

NOW = 1_700_000_000.0
FILE_BYTES = 2 * 2 * 2 * 64 * 4 * 150 + 4 * 150 + 32 + 1100
"""Of 150 tokens, header included, rounded up."""


def sample_kv(
    config: ModelConfig,
    tokens: Sequence[int],
    *,
    dtype: mx.Dtype = mx.float32,
    precision: KVPrecision = KVCache.precision,
) -> KVCache:
    """Every position tells the tokens up to it, as a real model's does."""
    layers, dim = config.num_hidden_layers, config.head_dim
    cache = KVCache(layers) if precision.bits is None else QuantisedKVCache(layers, dim, precision)
    sums = np.cumsum(np.array(tokens, np.float64) + 1)[None, :, None]
    heads = np.arange(config.num_key_value_heads)[:, None, None]
    queries = mx.zeros((1, config.num_attention_heads, 0, dim), dtype)
    for layer in range(layers):
        rows = np.sin(sums * 0.001 * (1 + np.arange(dim)) + heads + 2 * layer)
        keys = mx.array(rows[None].astype(np.float32)).astype(dtype)
        cache.attend(layer, queries, keys, -keys, scale=1.0)
    cache.advance(len(tokens))
    mx.eval(cache.arrays)
    return cache


def rows_of(config: ModelConfig, cache: KVCache, *, dtype: mx.Dtype = mx.float32) -> list[Rows]:
    """All that is stored of its tokens, bit for bit."""
    return list(KVLayout(config, dtype, cache.precision).rows(cache))


def same_kv(
    config: ModelConfig, one: KVCache, other: KVCache, *, dtype: mx.Dtype = mx.float32
) -> bool:
    pairs = zip(rows_of(config, one, dtype=dtype), rows_of(config, other, dtype=dtype), strict=True)
    return one.length == other.length and all(
        a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs
    )


def open_store(
    folder: Path, checkpoint: Checkpoint, *, limit: int = 10**9, dtype: mx.Dtype = mx.float32
) -> KVStore:
    return KVStore(folder, limit=limit, checkpoint=checkpoint, dtype=dtype)


def ids(length: int, seed: int = 0) -> list[int]:
    return [(7 * i * i + 31 * seed + seed) % 2000 for i in range(length)]


def never() -> bool:
    return False


def write(
    store: KVStore,
    checkpoint: Checkpoint,
    tokens: list[int],
    *,
    used: float = NOW,
    stop: Callable[[], bool] = never,
) -> None:
    store.write(tokens, sample_kv(checkpoint.config, tokens), used=used, stop=stop)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
