"""Penalties, biases, min_tokens and ignore_eos against NumPy and a plain loop over the model."""

from collections.abc import Iterator
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.errors import RequestError
from magistral_mlx.model.decoder import Decoder, load_decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.logit_rules import LogitRules
from magistral_mlx.sampling.sampler import Draw, SamplingParams, sample_full
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import VOCAB
from tests.tiny_engine import prompt, run, with_options

EOS = 2
FLAT = SamplingParams(temperature=3, top_p=0.99, seed=11)


@pytest.fixture(scope="module")
def decoder(checkpoint: Checkpoint) -> Decoder:
    return load_decoder(checkpoint)


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Iterator[Engine]:
    engine = Engine(checkpoint, tokenizer, window=700, max_running=8, prefill_tokens=16)
    yield engine
    engine.close()


def reference(
    logits: NDArray[np.float64], params: SamplingParams, given: list[int], output: list[int]
) -> NDArray[np.float64]:
    """vLLM's order and formulas, token by token."""
    changed = logits.copy()
    for token, bias in params.logit_bias.items():
        changed[token] += bias
    for token in {*given, *output}:
        up = changed[token] > 0
        changed[token] *= 1 / params.repetition_penalty if up else params.repetition_penalty
    for token in output:
        changed[token] -= params.frequency_penalty
    for token in set(output):
        changed[token] -= params.presence_penalty
    return changed


@settings(max_examples=50, deadline=None)
@given(
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.floats(0.1, 3),
    st.dictionaries(st.integers(0, 49), st.floats(-100, 100), max_size=4),
    st.lists(st.integers(0, 49), min_size=1, max_size=20),
    st.lists(st.integers(0, 49), max_size=40),
)
def test_logits_are_those_of_the_reference_at_every_token(
    presence: float,
    frequency: float,
    repetition: float,
    bias: dict[int, float],
    given: list[int],
    output: list[int],
) -> None:
    params = SamplingParams(
        presence_penalty=presence,
        frequency_penalty=frequency,
        repetition_penalty=repetition,
        logit_bias=bias,
    )
    rules = LogitRules(params, given, end_ids=[EOS])
    logits = np.random.default_rng(len(output)).normal(0, 3, 50)
    for length in (0, len(output) // 2, len(output)):
        row = mx.array(logits.astype(np.float32))[None]
        changed = np.array(rules.apply(row, output[:length]))[0]
        expected = reference(logits, params, given, output[:length])
        np.testing.assert_allclose(changed, expected, rtol=1e-5, atol=1e-4)


def generate_plainly(
    decoder: Decoder, request: Request, *, begun: list[int] | None = None
) -> list[int]:
    """One token after another, each from a forward over everything before it."""
    ids, params = [*request.prompt, *(begun or [])], request.options.sampling
    assert request.options.max_tokens is not None
    while len(ids) < len(request.prompt) + request.options.max_tokens:
        logits = decoder(mx.array(ids), [Segment(decoder.make_cache(), len(ids), 1)])[0]
        output = ids[len(request.prompt) :]
        row = np.array(logits.astype(mx.float32)).astype(float)
        changed = reference(row, params, list(request.prompt), output)
        if len(output) < request.options.min_tokens:
            changed[EOS] = -np.inf
        draw = Draw(params, params.seed or 0, len(ids))
        ids.append(sample_full(mx.array(changed.astype(np.float32)), draw))
        if ids[-1] == EOS and not request.options.ignore_eos:
            break
    return ids[len(request.prompt) :]


REQUESTS = [
    Request(prompt(30, seed=seed), options=OutputOptions(sampling=params, max_tokens=16 + seed))
    for seed, params in enumerate(
        [
            SamplingParams(temperature=0, frequency_penalty=1.5),
            FLAT,
            SamplingParams(temperature=0, repetition_penalty=1.8),
            SamplingParams(temperature=0),
            replace(FLAT, presence_penalty=2, frequency_penalty=-0.5),
            SamplingParams(temperature=0.7, seed=3, repetition_penalty=0.6),
            SamplingParams(temperature=1, seed=5, logit_bias={1500: 4.5, 1501: 4.5, 1777: -100}),
        ]
    )
]


def test_tokens_are_those_of_a_plain_loop_alone_and_together(
    engine: Engine, decoder: Decoder
) -> None:
    plain = [generate_plainly(decoder, request) for request in REQUESTS]
    assert [output.tokens for output in run(engine, *REQUESTS)] == plain
    assert [run(engine, request)[0].tokens for request in REQUESTS] == plain


def test_every_rule_of_the_batch_matters(engine: Engine) -> None:
    for request in REQUESTS:
        sampling = request.options.sampling
        free = SamplingParams(
            temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed
        )
        if sampling != free:
            [ruled, unruled] = run(engine, request, with_options(request, sampling=free))
            assert ruled.tokens != unruled.tokens, sampling


def test_penalties_count_what_closes_the_reasoning_by_force(
    engine: Engine, decoder: Decoder, tokenizer: Tokenizer
) -> None:
    # Negative: what was forced is then drawn again.
    sampling = SamplingParams(temperature=0, frequency_penalty=-1, presence_penalty=-1)
    request = Request(
        prompt(12),
        state="reasoning",
        options=OutputOptions(sampling=sampling, max_tokens=60, thinking_budget=9),
    )
    [output] = run(engine, request)
    assert output.end.reasoning_closed_by_force
    forced = 9 + len(tokenizer.think_close_ids)
    assert output.tokens[9:forced] == tokenizer.think_close_ids
    assert output.tokens == generate_plainly(decoder, request, begun=output.tokens[:forced])


def test_a_bias_of_100_forces_a_token_and_of_minus_100_forbids_it(engine: Engine) -> None:
    forced = SamplingParams(temperature=1, seed=1, logit_bias={1234: 100})
    [output] = run(engine, Request(prompt(5), options=OutputOptions(sampling=forced, max_tokens=6)))
    assert output.tokens == [1234] * 6
    [free] = run(engine, Request(prompt(5), options=OutputOptions(sampling=FLAT, max_tokens=40)))
    forbidden = replace(FLAT, logit_bias=dict.fromkeys(free.tokens, -100.0))
    [other] = run(
        engine, Request(prompt(5), options=OutputOptions(sampling=forbidden, max_tokens=40))
    )
    assert not set(free.tokens) & set(other.tokens)


EAGER = SamplingParams(temperature=1, seed=2, logit_bias={EOS: 30})
"""The end token at once, unless something forbids it."""


def test_min_tokens_puts_the_end_token_off(engine: Engine, decoder: Decoder) -> None:
    requests = [
        Request(
            prompt(8, seed=n), options=OutputOptions(sampling=EAGER, max_tokens=30, min_tokens=n)
        )
        for n in (0, 1, 9)
    ]
    outputs = run(engine, *requests)
    assert [output.tokens for output in outputs] == [generate_plainly(decoder, r) for r in requests]
    assert [len(output.tokens) for output in outputs] == [1, 2, 10]
    assert {output.end.reason for output in outputs} == {"stop"}


def test_min_tokens_gives_way_where_a_grammar_allows_nothing_but_the_end() -> None:
    rules = LogitRules(SamplingParams(), [1], end_ids=[EOS], min_tokens=5)
    row, allowed = mx.array([[3.0, 2.0, 1.0, 0.0]]), np.zeros(4, np.bool_)
    allowed[EOS] = True
    assert rules.apply(row, [], allowed).tolist() == [[-np.inf, -np.inf, 1.0, -np.inf]]
    allowed[3] = True
    assert rules.apply(row, [], allowed).tolist() == [[-np.inf, -np.inf, -np.inf, 0.0]]


def test_an_ignored_end_token_is_one_like_any_other(engine: Engine, decoder: Decoder) -> None:
    request = Request(
        prompt(8), options=OutputOptions(sampling=EAGER, max_tokens=7, ignore_eos=True)
    )
    [output] = run(engine, request)
    assert output.tokens == generate_plainly(decoder, request) == [EOS] * 7
    assert output.end.reason == "length"
    assert output.answer == ""
    [mixed] = run(
        engine,
        with_options(request, sampling=FLAT, max_tokens=600, stop_repetition=False),
    )
    assert len(mixed.tokens) == 600


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("presence_penalty", 2.1, "from -2 to 2"),
        ("frequency_penalty", float("nan"), "from -2 to 2"),
        ("repetition_penalty", 0, "above 0"),
        ("repetition_penalty", 11, "from 0 to 10"),
        ("logit_bias", {5: 101}, "logit_bias of token 5 is 101; it must be a number from -100"),
        ("logit_bias", {-1: 1}, "token id of logit_bias is -1"),
        ("logit_bias", {"5": 1}, "token id of logit_bias is '5'"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: object, allowed: str) -> None:
    with pytest.raises(RequestError, match=allowed):
        SamplingParams(**{name: value})  # type: ignore[arg-type]


def test_values_that_do_not_fit_together_are_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="min_tokens is 9 and max_tokens 8"):
        Request(prompt(3), options=OutputOptions(min_tokens=9, max_tokens=8))
    with pytest.raises(RequestError, match="min_tokens is -1"):
        Request(prompt(3), options=OutputOptions(min_tokens=-1))
    with pytest.raises(RequestError, match="id 2000; the vocabulary has 2,000"):
        engine.submit(
            Request(
                prompt(3), options=OutputOptions(sampling=SamplingParams(logit_bias={VOCAB: 1}))
            )
        )


def test_the_bias_is_the_one_of_the_time_of_asking() -> None:
    bias = {7: 1.0}
    params = SamplingParams(logit_bias=bias)
    bias[7] = 500
    assert params.logit_bias == {7: 1.0}
    assert hash(params) == hash(SamplingParams())
