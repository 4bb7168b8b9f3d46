"""The decoder against transformers and mlx-lm on the same weights, and against itself."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx.utils import tree_reduce
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.models.llama import Model
from mlx_lm.utils import load_model, quantize_model, save_config, save_model
from transformers import MistralForCausalLM

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.device import compute_dtype, on_cpu
from magistral_mlx.kv.cache import KVCache
from magistral_mlx.model.decoder import Decoder, load_decoder
from magistral_mlx.model.token_axis import Segment
from tests.sample_checkpoints import VOCAB, edit_json, random_weights, write_hf

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def plain_folder(folder: Path, *, tied: bool = False) -> Path:
    """Two float32 layers; queries are 256 wide, the hidden state 128; two queries a KV head."""
    weights = random_weights(dtype=mx.float32)
    if tied:
        del weights["lm_head.weight"]
    write_hf(folder, weights, shards=1)
    edit_json(folder / "config.json", torch_dtype="float32", tie_word_embeddings=tied)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_folder(tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bfloat16 model at 4 bits, as mlx-lm itself converts it."""
    folder = tmp_path_factory.mktemp("converted")
    source = write_hf(folder / "source")
    model, config = quantize_model(*load_model(source), 64, 4)
    save_model(folder / "model", model)
    save_config(config, folder / "model" / "config.json")
    shutil.copy(source / "tekken.json", folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def decoder(plain: Path) -> Decoder:
    return load_decoder(open_checkpoint(plain))


def random_ids(count: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).integers(0, VOCAB, count))


def run(decoder: Decoder, cache: KVCache, ids: mx.array, logits: int) -> Array:
    """One step of one sequence."""
    result = decoder(ids, [Segment(cache, ids.size, logits)])
    mx.eval(result, cache.arrays)
    return np.array(result)


def prefill(decoder: Decoder, ids: mx.array) -> Array:
    return run(decoder, decoder.make_cache(), ids, ids.size)


def assert_close(got: Array, want: Array, tolerance: float = 1e-4) -> None:
    """Relative to the largest logit: small ones are differences of large numbers."""
    assert got.shape == want.shape
    assert np.abs(got - want).max(initial=0) <= tolerance * np.abs(want).max(initial=0)


@pytest.mark.parametrize("tied", [False, True])
def test_logits_equal_transformers(tmp_path: Path, tied: bool) -> None:
    folder = plain_folder(tmp_path / "model", tied=tied)
    oracle = MistralForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = random_ids(300)
    with torch.no_grad():
        want = oracle(torch.tensor(ids.tolist())[None]).logits[0].numpy()
    assert_close(prefill(load_decoder(open_checkpoint(folder)), ids), want)


@pytest.mark.parametrize("chunks", [[1] * 40, [17, 1, 1, 20, 1], [39, 1]])
def test_decoding_through_the_cache_equals_one_prefill(decoder: Decoder, chunks: list[int]) -> None:
    ids = random_ids(40)
    want = prefill(decoder, ids)
    cache, got = decoder.make_cache(), []
    for count in chunks:
        got.append(run(decoder, cache, ids[cache.length : cache.length + count], count))
    assert_close(np.concatenate(got), want, 1e-5)


def test_only_the_positions_asked_for_reach_the_head(decoder: Decoder) -> None:
    ids = random_ids(30)
    want = prefill(decoder, ids)
    for count in (0, 1, 7):
        got = run(decoder, decoder.make_cache(), ids, count)
        assert_close(got, want[30 - count :], 1e-5)


def test_sequences_of_mixed_lengths_in_one_step_equal_each_alone(decoder: Decoder) -> None:
    """Decode tokens, prefill chunks and chunks without logits, at different positions."""
    shares = [(90, 1, 1), (0, 33, 1), (7, 1, 1), (300, 12, 12), (3, 20, 0), (20, 5, 2)]
    together, alone, fed = [], [], []
    for number, (past, new, logits) in enumerate(shares):
        ids = random_ids(past + new, seed=number)
        caches = [decoder.make_cache(), decoder.make_cache()]
        for cache in caches:
            if past:
                run(decoder, cache, ids[:past], 0)
        alone.append(run(decoder, caches[0], ids[past:], logits))
        together.append(Segment(caches[1], new, logits))
        fed.append(ids[past:])
    got = decoder(mx.concatenate(fed), together)
    assert [segment.cache.length for segment in together] == [past + new for past, new, _ in shares]
    assert_close(np.array(got), np.concatenate(alone), 1e-5)
    # What they stored is right as well: they go on like sequences that were always alone.
    fed = [random_ids(1, seed=number) for number in range(len(shares))]
    got = decoder(mx.concatenate(fed), [Segment(part.cache, 1, 1) for part in together])
    for number, (past, new, _) in enumerate(shares):
        ids = mx.concatenate([random_ids(past + new, seed=number), fed[number]])
        assert_close(np.array(got[number]), prefill(decoder, ids)[-1], 1e-5)


def test_a_trimmed_sequence_continues_like_a_fresh_one(decoder: Decoder) -> None:
    ids = random_ids(300)
    cache = decoder.make_cache()
    run(decoder, cache, ids, 1)
    cache.trim(140)
    other = mx.concatenate([ids[:140], random_ids(30, seed=1)])
    assert_close(run(decoder, cache, other[140:], 30), prefill(decoder, other)[140:], 1e-5)


def mlx_lm_greedy(model: Model, prompt: mx.array, count: int) -> list[int]:
    cache = make_prompt_cache(model)
    token = prompt
    tokens: list[int] = []
    for _ in range(count):
        token = mx.argmax(model(token[None], cache=cache)[0, -1:], axis=-1)
        tokens.append(int(np.array(token)[0]))
    return tokens


def greedy_together(decoder: Decoder, prompts: Sequence[mx.array], count: int) -> list[list[int]]:
    caches = [decoder.make_cache() for _ in prompts]
    fed, lengths = mx.concatenate(list(prompts)), [prompt.size for prompt in prompts]
    columns = []
    for _ in range(count):
        segments = [Segment(cache, n, 1) for cache, n in zip(caches, lengths, strict=True)]
        fed, lengths = mx.argmax(decoder(fed, segments), axis=-1), [1] * len(prompts)
        columns.append(fed.tolist())
    return [list(row) for row in zip(*columns, strict=True)]


def test_greedy_tokens_equal_mlx_lms_alone_and_with_others(converted: Path) -> None:
    model, _ = load_model(converted)
    model.set_dtype(mx.float32)  # as the runtime computes on the CPU
    decoder = load_decoder(open_checkpoint(converted), dtype=mx.float32)
    prompts = [random_ids(length, seed=length) for length in (5, 63, 1, 270)]
    want = [mlx_lm_greedy(model, prompt, 24) for prompt in prompts]
    assert [greedy_together(decoder, [prompt], 24)[0] for prompt in prompts] == want
    assert greedy_together(decoder, prompts, 24) == want


def test_computes_in_float32_on_the_cpu_unless_told(converted: Path) -> None:
    checkpoint = open_checkpoint(converted)
    assert checkpoint.config.dtype == "bfloat16"
    assert compute_dtype("bfloat16") == (mx.float32 if on_cpu() else mx.bfloat16)
    decoder = load_decoder(checkpoint)
    assert prefill_dtype(decoder) == compute_dtype("bfloat16")
    assert prefill_dtype(load_decoder(checkpoint, dtype=mx.bfloat16)) == mx.bfloat16


def test_loading_holds_no_tensor_twice(converted: Path) -> None:
    """Scales are cast and q, k and v joined, one tensor after the other."""
    checkpoint = open_checkpoint(converted)
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    decoder = load_decoder(checkpoint)
    size = tree_reduce(lambda total, array: total + array.nbytes, decoder.parameters(), 0)
    assert mx.get_active_memory() - before < 1.02 * size
    assert mx.get_peak_memory() - before < 1.5 * size


def prefill_dtype(decoder: Decoder) -> mx.Dtype:
    cache = decoder.make_cache()
    logits = decoder(random_ids(3), [Segment(cache, 3, 1)])
    assert {array.dtype for array in cache.arrays} == {logits.dtype}
    return logits.dtype
