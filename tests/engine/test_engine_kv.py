"""KV of every precision in one engine: what it reuses, what it refuses, what a pause keeps."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import mlx.core as mx
import pytest

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.device import DeviceOptions
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.kv_budget import kv_budget
from magistral_mlx.engine.request import Request
from magistral_mlx.engine.status import StepReport
from magistral_mlx.errors import RequestError
from magistral_mlx.events import AnswerText, Failed
from magistral_mlx.kv.cache import BLOCK, KVPrecision, kv_precision
from magistral_mlx.model.decoder import load_decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import HEAD_DIM, KV_HEADS, LAYERS
from tests.tiny_engine import Output, prompt, run, with_options

BLOCK_BYTES = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4 * BLOCK
GREEDY = SamplingParams(temperature=0)
PRECISIONS = [kv_precision(16), kv_precision(8), kv_precision(4), kv_precision(8, start=30)]


@pytest.fixture
def reports() -> list[StepReport]:
    return []


@pytest.fixture
def engine(
    checkpoint: Checkpoint, tokenizer: Tokenizer, reports: list[StepReport]
) -> Iterator[Engine]:
    engine = Engine(checkpoint, tokenizer, window=2000, prefix_bytes=10**9, on_step=reports.append)
    yield engine
    engine.close()


def asking(length: int, precision: KVPrecision | None, *, seed: int = 0) -> Request:
    return Request(
        prompt(length, seed=seed),
        options=OutputOptions(
            sampling=GREEDY,
            max_tokens=12,
            stop_repetition=False,
            ignore_eos=True,
            kv_precision=precision,
        ),
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tokens_are_those_of_the_decoder_at_that_precision(
    checkpoint: Checkpoint, engine: Engine, precision: KVPrecision
) -> None:
    [output] = run(engine, asking(90, precision))
    decoder = load_decoder(checkpoint)
    cache = decoder.make_cache(bits=precision.bits, start=precision.start)
    tokens, expected = mx.array(prompt(90)), list[int]()
    for _ in range(12):
        logits = decoder(tokens, [Segment(cache, tokens.size, 1)])
        tokens = mx.argmax(logits[0], keepdims=True)
        expected += cast("list[int]", tokens.tolist())
    assert output.tokens == expected


def test_precisions_share_a_step_and_change_nothing_for_each_other(engine: Engine) -> None:
    requests = [asking(40 + 30 * i, p, seed=i) for i, p in enumerate(PRECISIONS)]
    together = [output.tokens for output in run(engine, *requests)]
    assert together == [run(engine, request)[0].tokens for request in requests]


def test_kv_of_one_precision_is_never_taken_for_another(engine: Engine) -> None:
    cached = [run(engine, asking(300, p))[0].end.usage.cached_tokens for p in PRECISIONS]
    assert cached == [0, 0, 0, 0]
    cached = [run(engine, asking(300, p))[0].end.usage.cached_tokens for p in PRECISIONS]
    assert cached == [299, 299, 299, 299]


def test_kv_of_a_running_sequence_serves_its_own_precision_only(engine: Engine) -> None:
    running = engine.submit(with_options(asking(300, kv_precision(4)), max_tokens=None))
    try:
        for event in running:
            if isinstance(event, AnswerText):
                break
        cached = [
            run(engine, asking(300, kv_precision(bits)))[0].end.usage.cached_tokens
            for bits in (8, 4)
        ]
    finally:
        running.cancel()
    assert cached == [0, 299]


def test_equal_prompts_of_one_precision_are_prefilled_once(
    engine: Engine, reports: list[StepReport]
) -> None:
    run(engine, *[asking(600, kv_precision(8)) for _ in range(4)])
    assert sum(report.prefill_tokens for report in reports) == 600 + 3
    reports.clear()
    run(engine, asking(600, kv_precision(4)), asking(600, kv_precision(4, start=9)))
    assert sum(report.prefill_tokens for report in reports) == 2 * 600


def test_requests_without_a_precision_take_the_engines(
    checkpoint: Checkpoint, tokenizer: Tokenizer
) -> None:
    small = Engine(checkpoint, tokenizer, window=2000, kv_precision=kv_precision(4))
    try:
        sequence = small.submit_to(asking(20, None), lambda _: None)
        assert sequence.precision == kv_precision(4)
        own = small.submit_to(asking(20, kv_precision(16)), lambda _: None)
        assert own.precision == KVPrecision()
    finally:
        small.close()


def test_the_window_is_what_the_budget_holds_at_the_requests_precision(
    checkpoint: Checkpoint, tokenizer: Tokenizer
) -> None:
    tight = Engine(
        checkpoint,
        tokenizer,
        window=2000,
        kv_bytes=2 * BLOCK_BYTES,
        kv_precision=kv_precision(8),
    )
    try:
        budget = kv_budget(checkpoint.config, "float32", limit=2 * BLOCK_BYTES)
        assert tight.window == budget.longest_window(kv_precision(8)) == 7 * BLOCK
        [output] = run(tight, with_options(asking(7 * BLOCK - 5, None), max_tokens=None))
        assert len(output.tokens) == 5
        with pytest.raises(RequestError, match="517 tokens and the window holds 512"):
            tight.submit(asking(517, kv_precision(16)))
    finally:
        tight.close()


def test_heads_that_cannot_be_quantised_are_refused_when_a_request_comes(
    checkpoint: Checkpoint, tokenizer: Tokenizer
) -> None:
    odd = replace(checkpoint, config=replace(checkpoint.config, head_dim=80))
    with pytest.raises(RequestError, match="Heads of 80"):
        Engine(odd, tokenizer, window=2000, kv_precision=kv_precision(8))


def test_a_paused_sequence_keeps_the_kv_that_there_is_room_for(
    checkpoint: Checkpoint, tokenizer: Tokenizer
) -> None:
    """Two that grow together in four blocks: the third block of the one costs the other one."""
    reports: list[StepReport] = []
    tight = Engine(
        checkpoint,
        tokenizer,
        window=2000,
        kv_bytes=4 * BLOCK_BYTES,
        prefix_bytes=10**9,
        on_step=reports.append,
    )
    requests = [with_options(asking(200, None, seed=i), max_tokens=330) for i in range(2)]
    try:
        together = run(tight, *requests)
        prefilled = sum(report.prefill_tokens for report in reports)
        alone = [run(tight, request)[0].tokens for request in requests]
    finally:
        tight.close()
    assert [output.tokens for output in together] == alone
    # It is paused with two blocks or just less, and keeps one of them.
    assert 2 * 200 + 250 <= prefilled <= 2 * 200 + 256


def test_the_status_and_the_reports_of_steps_add_up(
    engine: Engine, reports: list[StepReport]
) -> None:
    outputs: list[Output] = run(engine, asking(100, None), asking(40, kv_precision(8), seed=1))
    assert sum(report.prefill_tokens for report in reports) == 100 + 40
    # Of 12 tokens the last needs no step; one step of each may be sent before that is known.
    assert 2 * 11 <= sum(report.decode_tokens for report in reports) <= 2 * 12
    assert all(report.seconds > 0 for report in reports)
    assert {report.running for report in reports} >= {2}
    assert outputs[0].end.reason == "length"
    deadline = time.monotonic() + 5
    while engine.status.kv_running_bytes and time.monotonic() < deadline:
        time.sleep(0.001)
    status = engine.status
    assert (status.alive, status.running, status.waiting) == (True, 0, 0)
    budget = kv_budget(engine._config, "float32", limit=None)
    stored = [budget.needs(111, KVPrecision()), budget.needs(51, kv_precision(8))]
    assert status.kv_stored_bytes == sum(stored)
    engine.close()
    assert not engine.status.alive


def test_a_receiver_of_reports_that_fails_takes_nothing_down(
    checkpoint: Checkpoint, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[StepReport] = []

    def fail(report: StepReport) -> None:
        calls.append(report)
        raise ValueError("no such gauge")

    engine = Engine(checkpoint, tokenizer, window=2000, on_step=fail)
    try:
        assert run(engine, asking(20, None))[0].end.reason == "length"
    finally:
        engine.close()
    assert len(calls) == 1
    assert "no such gauge" in caplog.text


def test_freed_memory_that_mlx_keeps_is_bounded_while_the_engine_lives(
    checkpoint: Checkpoint, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = mx.set_cache_limit(10**9)
    wired: list[int] = []
    monkeypatch.setattr(mx, "set_wired_limit", wired.append)
    try:
        engine = Engine(
            checkpoint, tokenizer, window=2000, device=DeviceOptions(spare_bytes=300_000)
        )
        most = 0
        for event in engine.submit(with_options(asking(700, None), max_tokens=40)):
            most = max(most, mx.get_cache_memory())
            assert not isinstance(event, Failed)
        engine.close()
        assert 0 < most <= 300_000
        assert mx.set_cache_limit(before) == 10**9
    finally:
        mx.set_cache_limit(before)
    assert wired == []


def test_memory_is_wired_only_when_that_is_asked_for_and_given_back_at_the_end(
    checkpoint: Checkpoint, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [0]

    def set_limit(nbytes: int) -> int:
        limits.append(nbytes)
        return limits[-2]

    monkeypatch.setattr(mx, "set_wired_limit", set_limit)
    Engine(checkpoint, tokenizer, window=2000).close()
    assert limits == [0]
    device = DeviceOptions(wired_bytes=5_000_000)
    Engine(checkpoint, tokenizer, window=2000, device=device).close()
    assert limits == [0, 5_000_000, 0]
