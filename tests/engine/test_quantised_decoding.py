"""A decoder over quantised caches: alone, in mixed steps, and against mlx-lm's quantised cache."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import QuantizedKVCache
from mlx_lm.utils import load_model

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.device import on_cpu
from magistral_mlx.kv.cache import KVCache, kv_precision
from magistral_mlx.kv.quantised import QuantisedKVCache
from magistral_mlx.memory.byte_counts import step_bytes
from magistral_mlx.model.decoder import Decoder, load_decoder
from magistral_mlx.model.token_axis import Segment
from tests.sample_checkpoints import LAYERS, VOCAB, edit_json, random_weights, write_hf


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two float32 layers; two queries a KV head."""
    path = tmp_path_factory.mktemp("plain") / "model"
    write_hf(path, random_weights(dtype=mx.float32), shards=1)
    edit_json(path / "config.json", torch_dtype="float32")
    return path


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Decoder:
    return load_decoder(open_checkpoint(folder))


def random_ids(count: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).integers(0, VOCAB, count))


def run(decoder: Decoder, cache: KVCache, ids: mx.array, logits: int) -> mx.array:
    """One step of one sequence."""
    result = decoder(ids, [Segment(cache, ids.size, logits)])
    mx.eval(result, cache.arrays)
    return result


def largest(difference: mx.array) -> float:
    return float(np.abs(np.array(difference)).max())


def assert_close(got: mx.array, want: mx.array, tolerance: float = 1e-5) -> None:
    assert got.shape == want.shape
    assert largest(got - want) <= tolerance * largest(want)


def test_a_decoder_makes_caches_of_any_precision(decoder: Decoder) -> None:
    assert type(decoder.make_cache()) is type(decoder.make_cache(bits=16, start=4)) is KVCache
    cache = decoder.make_cache(bits=4, start=7)
    assert isinstance(cache, QuantisedKVCache)
    assert (cache.precision, cache.layers) == (kv_precision(4, start=7), LAYERS)


@pytest.mark.parametrize(("bits", "start"), [(8, 0), (4, 0), (4, 11)])
def test_decoding_equals_one_prefill(decoder: Decoder, bits: int, start: int) -> None:
    ids = random_ids(40)
    want = run(decoder, decoder.make_cache(bits=bits, start=start), ids, 40)
    for chunks in ([1] * 40, [17, 1, 1, 20, 1]):
        cache, got = decoder.make_cache(bits=bits, start=start), []
        for count in chunks:
            got.append(run(decoder, cache, ids[cache.length : cache.length + count], count))
        assert_close(mx.concatenate(got), want)


def test_mixed_precisions_in_one_step_equal_each_alone(decoder: Decoder) -> None:
    """Decode tokens, prefill chunks and chunks without logits, at different positions."""
    shares = [
        (90, 1, 1, None, 0),
        (0, 33, 1, 4, 0),
        (7, 1, 1, 8, 0),
        (300, 12, 12, 4, 305),
        (3, 20, 0, 8, 4),
        (20, 5, 2, None, 0),
        (260, 1, 1, 4, 16),
    ]
    together, alone, fed = [], [], []
    for number, (past, new, logits, bits, start) in enumerate(shares):
        ids = random_ids(past + new, seed=number)
        caches = [decoder.make_cache(bits=bits, start=start) for _ in range(2)]
        for cache in caches:
            if past:
                run(decoder, cache, ids[:past], 0)
        alone.append(run(decoder, caches[0], ids[past:], logits))
        together.append(Segment(caches[1], new, logits))
        fed.append(ids[past:])
    got = decoder(mx.concatenate(fed), together)
    assert_close(got, mx.concatenate(alone))


def peak_of(run: Callable[[], mx.array]) -> int:
    """Most bytes in use beside what was there, while something is computed."""
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(run())
    return mx.get_peak_memory() - before


@pytest.mark.skipif(not on_cpu(), reason="other block sizes")
@pytest.mark.parametrize("bits", [8, 4])
def test_a_step_stays_inside_the_predicted_bytes(decoder: Decoder, bits: int) -> None:
    cache, ids = decoder.make_cache(bits=bits), random_ids(256)
    run(decoder, cache, random_ids(1536), 0)
    mx.eval(ids)
    predicted = step_bytes(
        decoder.config,
        "float32",
        tokens=256,
        sampled=1,
        window=1792,
        on_gpu=False,
        kv_bits=bits,
    )
    assert peak_of(lambda: decoder(ids, [Segment(cache, 256, 1)])) <= predicted


def mlx_lm_greedy(
    folder: Path, prompt: mx.array, bits: int, count: int
) -> tuple[list[int], mx.array]:
    model, _ = load_model(folder)
    cache = [QuantizedKVCache(group_size=64, bits=bits) for _ in range(LAYERS)]
    token, tokens, rows = prompt, [], []
    for _ in range(count):
        rows.append(model(token[None], cache=cache)[0, -1])
        token = mx.argmax(rows[-1], keepdims=True)
        tokens.append(int(np.array(token)[0]))
    return tokens, mx.stack(rows)


@pytest.mark.parametrize("bits", [8, 4])
def test_greedy_tokens_equal_mlx_lms(folder: Path, decoder: Decoder, bits: int) -> None:
    for prompt in (random_ids(5, seed=5), random_ids(300, seed=300)):
        tokens, want = mlx_lm_greedy(folder, prompt, bits=bits, count=24)
        cache, fed, rows, got = decoder.make_cache(bits=bits), prompt, [], []
        for _ in range(24):
            rows.append(run(decoder, cache, fed, 1)[0])
            fed = mx.argmax(rows[-1], keepdims=True)
            got.append(int(np.array(fed)[0]))
        assert got == tokens
        assert_close(mx.stack(rows), want, 1e-4)
        exact = run(decoder, decoder.make_cache(), prompt, 1)[0]
        assert largest(exact - want[0]) > 1e-3 * largest(want)
