"""The plan against the model card's figures, MLX's own byte counts, and steps that really run."""

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.device import has_metal
from magistral_mlx.errors import RequestError
from magistral_mlx.machine import (
    GIB,
    MAC_SIZES,
    MemoryLimit,
    mac_limit,
    machine_limit,
    parse_size,
)
from magistral_mlx.memory.byte_counts import kv_bytes_per_token, step_bytes, weight_bytes
from magistral_mlx.memory.needs import Workload
from magistral_mlx.memory.plan import (
    MemoryPlan,
    MemoryPlanError,
    magistral_small,
    plan,
)
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.model.token_axis import Segment

SMALL = magistral_small()


def tiny(*, quantization: Quantization | None = None, dtype: str = "float32") -> ModelConfig:
    return ModelConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        rms_norm_eps=1e-5,
        rope_theta=1e6,
        max_position_embeddings=1_000,
        tie_word_embeddings=False,
        dtype=dtype,
        quantization=quantization,
    )


def mac(
    gigabytes: int,
    *,
    window: int | None = None,
    kv_bits: int | None = None,
    sequences: int = 1,
) -> MemoryPlan:
    options = Workload(window=window, kv_bits=kv_bits, sequences=sequences)
    return plan(SMALL, mac_limit(gigabytes * GIB), options)


def test_weights_of_magistral_small_match_the_model_card() -> None:
    assert weight_bytes(magistral_small(bits=None), "bfloat16") / 1e9 == pytest.approx(
        47.1, abs=0.05
    )
    assert weight_bytes(SMALL, "bfloat16") / 1e9 == pytest.approx(13.26, abs=0.005)


@pytest.mark.parametrize(("bits", "expected"), [(16, 163_840), (8, 87_040), (4, 46_080)])
def test_kv_bytes_of_a_token_match_the_model_card(bits: int, expected: int) -> None:
    assert kv_bytes_per_token(SMALL, "bfloat16", bits=bits) == expected


def test_kv_at_the_window_matches_the_model_card() -> None:
    at_window = {choice.bits: choice.bytes_at_window / 1e9 for choice in mac(128).kv_choices}
    assert at_window == pytest.approx({16: 6.71, 8: 3.57, 4: 1.89}, abs=0.005)


def test_a_32_gb_mac_has_the_working_set_of_the_model_card() -> None:
    assert mac_limit(32 * GIB).bytes / 1e9 == pytest.approx(22.9, abs=0.05)


@pytest.mark.parametrize("quantization", [None, Quantization(4, 64), Quantization(8, 32)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weight_bytes_are_those_of_a_decoder_in_memory(
    quantization: Quantization | None, dtype: str
) -> None:
    decoder = Decoder(tiny())
    decoder.set_dtype(mx.float32 if dtype == "float32" else mx.bfloat16)
    if quantization is not None:
        nn.quantize(decoder, group_size=quantization.group_size, bits=quantization.bits)
    arrays = dict(tree_flatten(decoder.parameters())).values()
    in_memory = sum(array.nbytes for array in arrays)
    assert weight_bytes(tiny(quantization=quantization), dtype) == in_memory


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_kv_bytes_are_those_of_mlx(bits: int) -> None:
    config = tiny(dtype="bfloat16")
    keys = mx.zeros((1, config.num_key_value_heads, 1, config.head_dim), mx.bfloat16)
    parts = mx.quantize(keys, group_size=64, bits=bits)
    one_token = 2 * config.num_hidden_layers * sum(part.nbytes for part in parts)
    assert kv_bytes_per_token(config, "bfloat16", bits=bits) == one_token


@pytest.mark.skipif(has_metal(), reason="measures MLX's CPU backend")
@pytest.mark.parametrize(("before", "tokens"), [(0, 256), (1_536, 256), (1_536, 1)])
def test_a_real_step_stays_inside_the_predicted_bytes(before: int, tokens: int) -> None:
    config = replace(tiny(), intermediate_size=2_048, vocab_size=8_192)
    decoder = Decoder(config)
    cache = decoder.make_cache()
    if before:
        mx.eval(decoder(mx.zeros((before,), mx.int32), [Segment(cache, before, 0)]), cache.arrays)
    mx.eval(decoder.parameters())
    mx.reset_peak_memory()
    logits = decoder(mx.zeros((tokens,), mx.int32), [Segment(cache, tokens, 1)])
    mx.eval(logits, cache.arrays)
    beside = mx.get_peak_memory() - mx.get_active_memory()
    predicted = step_bytes(
        config, "float32", tokens=tokens, sampled=1, window=cache.length, on_gpu=False
    )
    assert beside <= predicted
    assert tokens == 1 or predicted < 4 * beside  # a bound, but not any bound
    assert cache.nbytes <= kv_bytes_per_token(config, "float32", bits=32) * (cache.length + 256)


@pytest.mark.parametrize(
    ("gigabytes", "window"),
    [
        (24, 34_560),
        (32, 40_960),
        (36, 40_960),
        (48, 40_960),
        (64, 40_960),
        (96, 40_960),
        (128, 40_960),
    ],
)
def test_macs_that_hold_magistral_get_this_window(gigabytes: int, window: int) -> None:
    assert mac(gigabytes).window == window


@pytest.mark.parametrize("gigabytes", [8, 16, 18])
def test_macs_that_cannot_hold_it_are_told_what_would_fit(gigabytes: int) -> None:
    with pytest.raises(MemoryPlanError, match=r"weights 13\.3 GB.*a Mac with 24 GB"):
        mac(gigabytes)


def test_a_16_gb_mac_is_offered_a_conversion_that_really_fits() -> None:
    with pytest.raises(MemoryPlanError, match="converted to 3 bits"):
        mac(16)
    assert plan(magistral_small(bits=3), mac_limit(16 * GIB)).window >= 2_048


@pytest.mark.parametrize("gigabytes", [size // GIB for size in MAC_SIZES if size >= 24 * GIB])
def test_every_byte_of_the_limit_is_accounted_for(gigabytes: int) -> None:
    made = mac(gigabytes)
    parts = made.weights + made.kv + made.step + made.prefix_cache + made.headroom
    assert parts == made.limit == mac_limit(gigabytes * GIB).bytes
    assert min(made.prefix_cache, made.headroom) >= 0


def test_a_window_that_does_not_fit_is_refused_with_the_longest_that_does() -> None:
    longest = mac(20).kv_choices[-1].longest_window
    with pytest.raises(MemoryPlanError, match=rf"40,960.*a window of {longest:,};.*24 GB"):
        mac(20, window=40_960)
    assert mac(20, window=longest).window == longest
    with pytest.raises(MemoryPlanError):
        mac(20, window=longest + 256)


def test_a_window_beyond_the_checkpoints_maximum_is_refused() -> None:
    with pytest.raises(MemoryPlanError, match="1 to 131,072"):
        mac(512, window=131_073)


def test_several_sequences_each_get_a_full_window() -> None:
    assert mac(64, sequences=4).kv == 4 * mac(64).kv
    with pytest.raises(MemoryPlanError, match=r"for 8 sequences.*one sequence at a time"):
        mac(32, sequences=8, window=40_960)


@pytest.mark.parametrize(
    ("gigabytes", "bits"), [(24, 8), (26, 8), (32, 16), (36, 16), (48, 16), (64, 16), (96, 16)]
)
def test_kv_is_quantised_only_as_far_as_the_window_needs(gigabytes: int, bits: int) -> None:
    made = mac(gigabytes)
    assert made.kv_bits == bits
    longest = {choice.bits: min(40_960, choice.longest_window) for choice in made.kv_choices}
    assert longest[bits] >= 0.75 * longest[4]
    assert bits == 16 or longest[2 * bits] < 0.75 * longest[4]


def test_the_finest_precision_that_holds_a_window_asked_for_is_chosen() -> None:
    chosen = {window: mac(24, window=window).kv_bits for window in (20_480, 30_720, 40_960)}
    assert chosen == {20_480: 16, 30_720: 8, 40_960: 4}


def test_a_precision_asked_for_is_kept_and_the_window_follows_it() -> None:
    made = mac(24, kv_bits=16)
    assert (made.kv_bits, made.window) == (16, 21_504)
    assert made.reasons[1] == "KV at 16 bits: as asked"
    assert mac(24, kv_bits=4).window == 40_960


def test_16_bits_are_those_of_the_compute_type() -> None:
    assert plan(tiny(), MemoryLimit(10**9, "test"), Workload(kv_bits=16)).kv_bits == 32


def test_a_precision_that_is_not_possible_is_refused_with_those_that_are() -> None:
    with pytest.raises(MemoryPlanError, match=r"5 bits.*choose 16, 8 or 4"):
        mac(64, kv_bits=5)
    odd = replace(SMALL, head_dim=80)
    with pytest.raises(MemoryPlanError, match=r"4 bits.*choose 16\."):
        plan(odd, mac_limit(64 * GIB), Workload(kv_bits=4))
    assert plan(odd, mac_limit(24 * GIB)).kv_bits == 16


def test_quantised_kv_is_planned_with_the_scores_that_no_kernel_keeps_to_itself() -> None:
    plain, small = (mac(32, kv_bits=bits).step for bits in (16, 8))
    assert small > plain + 3 * 16 * 32 * 40_960 * 2 * 3


def test_float32_is_planned_with_its_own_precision() -> None:
    config, limit = tiny(quantization=Quantization(4, 64)), MemoryLimit(10**9, "test")
    made = plan(config, limit, Workload(dtype="float32"))
    assert made.kv_bits == 32
    assert made.window == 1_000  # the checkpoint's maximum, not a multiple of the step


@given(st.integers(min_value=24, max_value=512))
@settings(max_examples=30, deadline=None)
def test_the_longest_window_fits_and_one_step_more_does_not(gigabytes: int) -> None:
    for choice in mac(gigabytes).kv_choices:
        longest, bits = choice.longest_window, choice.bits
        assert mac(gigabytes, window=longest, kv_bits=bits).headroom >= 0
        if longest < SMALL.max_position_embeddings:
            with pytest.raises(MemoryPlanError):
                mac(gigabytes, window=longest + 256, kv_bits=bits)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("32GB", 32 * GIB),
        ("32", 32 * GIB),
        ("512 MB", 2**29),
        ("1.5tb", 3 * 2**39),
        ("8GiB", 2**33),
    ],
)
def test_memory_sizes_are_read_as_they_are_sold(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "many", "-4GB", "0", "32 XB", "GB", "32GB or so"])
def test_what_is_not_a_memory_size_is_refused_with_the_form_to_use(text: str) -> None:
    with pytest.raises(RequestError, match="32GB"):
        parse_size(text)


def test_this_machines_limit_is_a_reading() -> None:
    limit = machine_limit()
    assert limit.bytes > GIB // 4
    assert "this" in limit.source
