"""Log-probabilities against NumPy, and with which text they come."""

from collections.abc import Iterator
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from scipy.special import log_softmax

from magistral_mlx.checkpoint.folder import Checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.errors import RequestError
from magistral_mlx.events import AnswerText, ReasoningText, TokenLogprob
from magistral_mlx.model.decoder import load_decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.output_text import TextEvent
from magistral_mlx.text.tokenizer import Tokenizer
from tests.text.token_streams import TokenText
from tests.tiny_engine import prompt, run, with_options

# Flat enough that tokens are drawn again in full.
FLAT = SamplingParams(temperature=3, top_p=0.99, seed=11, frequency_penalty=1)


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Iterator[Engine]:
    engine = Engine(checkpoint, tokenizer, window=700, max_running=4, prefill_tokens=16)
    yield engine
    engine.close()


@pytest.mark.parametrize("sampling", [SamplingParams(temperature=0), FLAT], ids=["greedy", "flat"])
def test_they_are_the_models_own_for_every_token(
    engine: Engine, checkpoint: Checkpoint, tokenizer: Tokenizer, sampling: SamplingParams
) -> None:
    request = Request(
        prompt(40),
        state="answer",
        options=OutputOptions(sampling=sampling, max_tokens=24, logprobs=5, ignore_eos=True),
    )
    other = replace(with_options(request, logprobs=None), prompt=prompt(9, seed=3))
    output, plain = run(engine, request, other)
    decoder = load_decoder(checkpoint)
    ids = [*request.prompt, *output.tokens]
    logits = decoder(mx.array(ids), [Segment(decoder.make_cache(), len(ids), len(ids))])
    expected = log_softmax(np.array(logits, dtype=np.float64), axis=-1)[39:-1]
    told = output.logprobs
    assert [t.id for t in told] == output.tokens[: len(told)]
    assert len(told) >= 20  # the last ones may not have completed a character
    for row, token in zip(expected, told, strict=False):
        best = np.argsort(-row)[:5]
        assert token.logprob == pytest.approx(row[token.id], abs=1e-4)
        assert [t.logprob for t in token.top] == pytest.approx(row[best], abs=1e-4)
        assert [t.id for t in token.top] == best.tolist()
        assert token.text == tokenizer.token_bytes(token.id)
    assert plain.logprobs == []


def test_asking_for_them_changes_no_token_and_zero_gives_no_alternatives(engine: Engine) -> None:
    request = Request(
        prompt(20), state="answer", options=OutputOptions(sampling=FLAT, max_tokens=30)
    )
    [plain] = run(engine, request)
    [asked, more] = run(
        engine,
        with_options(request, logprobs=0),
        with_options(request, logprobs=20),
    )
    assert plain.tokens == asked.tokens == more.tokens
    assert plain.answer == asked.answer
    assert all(token.top == () for token in asked.logprobs)
    assert all(len(token.top) == 20 for token in more.logprobs)
    assert [t.logprob for t in asked.logprobs] == [t.logprob for t in more.logprobs]


def test_greedy_tokens_are_the_first_alternative(engine: Engine) -> None:
    greedy = SamplingParams(temperature=0)
    [output] = run(
        engine,
        Request(prompt(20), options=OutputOptions(sampling=greedy, max_tokens=20, logprobs=1)),
    )
    assert output.logprobs
    for token in output.logprobs:
        assert replace(token, top=()) == token.top[0]


def told(output: TokenText, tokenizer: Tokenizer, text: str) -> list[tuple[str, str, bytes]]:
    """Push a text token by token; of every event, its kind, its text and its tokens' bytes."""
    told: list[TextEvent] = []
    for token in tokenizer.encode(text):
        told += output.push(token, logprob=TokenLogprob(token, tokenizer.token_bytes(token), -1))
    told += output.finish()
    events = [event for event in told if isinstance(event, AnswerText | ReasoningText)]
    kinds = ["reasoning" if isinstance(event, ReasoningText) else "answer" for event in events]
    return [
        (kind, event.text, b"".join(token.text for token in event.logprobs))
        for kind, event in zip(kinds, events, strict=True)
    ]


def joined(pieces: list[tuple[str, str, bytes]], kind: str) -> tuple[str, bytes]:
    return (
        "".join(text for k, text, _ in pieces if k == kind),
        b"".join(tokens for k, _, tokens in pieces if k == kind),
    )


def test_tokens_come_with_their_part_and_those_of_the_tags_with_none(tokenizer: Tokenizer) -> None:
    text = "<think>\nIch zähle 1 </thi 2.\n</think>\n\nDrei – 3 €."
    pieces = told(TokenText(tokenizer), tokenizer, text)
    thought, tokens = joined(pieces, "reasoning")
    assert thought == "Ich zähle 1 </thi 2."
    assert tokens.decode().strip("\n").rstrip(".") == thought.rstrip(".")
    assert joined(pieces, "answer") == ("Drei – 3 €.", "Drei – 3 €.".encode())
    assert all(tokens for kind, _, tokens in pieces)


def test_tokens_behind_a_stop_string_are_not_told(tokenizer: Tokenizer) -> None:
    output = TokenText(tokenizer, state="answer", stop=("c def",))
    pieces = told(output, tokenizer, "a b c de c def g h")
    shown, tokens = joined(pieces, "answer")
    assert shown == "a b c de "
    assert tokens.decode().startswith(shown.rstrip())
    assert b"def" not in tokens
    assert output.stop_string == "c def"


def test_more_than_20_alternatives_are_refused() -> None:
    with pytest.raises(RequestError, match="logprobs is 21; it must be at most 20"):
        Request(prompt(3), options=OutputOptions(logprobs=21))
    with pytest.raises(RequestError, match="logprobs is -1; it must be at least 0"):
        Request(prompt(3), options=OutputOptions(logprobs=-1))
