"""Stop strings: found wherever pieces are cut, never shown, and only in the answer."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.errors import RequestError
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.output_text import StopStrings
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import write_hf
from tests.tiny_engine import prompt, run, with_options

SAMPLING = SamplingParams(temperature=2, top_p=1, seed=4)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    checkpoint = open_checkpoint(write_hf(tmp_path_factory.mktemp("tiny") / "tiny"))
    engine = Engine(checkpoint, Tokenizer.open(checkpoint.folder), window=700, max_running=4)
    yield engine
    engine.close()


def cut(text: str, strings: list[str]) -> tuple[str, str | None]:
    """By trying every end: the first at which a string is complete, and the longest there."""
    for end in range(len(text) + 1):
        complete = [s for s in strings if text[:end].endswith(s)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(
    st.text("ab", max_size=30),
    st.lists(st.text("ab", min_size=1, max_size=6), max_size=3),
    st.sets(st.integers(1, 29)),
)
def test_the_text_ends_at_the_same_place_however_it_comes(
    text: str, strings: list[str], cuts: set[int]
) -> None:
    stop = StopStrings(strings)
    ends = [*sorted(c for c in cuts if c < len(text)), len(text)]
    pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    shown = ""
    for piece in pieces:
        shown += stop.push(piece)
        assert cut(text, strings)[0].startswith(shown)
    shown += stop.finish()
    assert (shown, stop.found) == cut(text, strings)


def test_no_more_is_held_back_than_may_become_a_stop_string() -> None:
    stop = StopStrings(["\n\nUser:", "###"])
    assert stop.push("one\n") == "one"
    assert stop.push("two #") == "\ntwo "
    assert stop.push("# three") == "## three"
    assert stop.push("\n\nUser") == ""
    assert stop.push(" four") == "\n\nUser four"
    assert stop.push("\n\nUser: five") == ""
    assert stop.push("six") == ""
    assert stop.found == "\n\nUser:"


@pytest.mark.parametrize("length", [1, 3, 9])
def test_an_answer_ends_where_a_stop_string_begins(engine: Engine, length: int) -> None:
    request = Request(
        prompt(9), state="answer", options=OutputOptions(sampling=SAMPLING, max_tokens=40)
    )
    [whole] = run(engine, request)
    string = whole.answer[20 : 20 + length]
    [stopped] = run(engine, with_options(request, stop=("never in it", string)))
    assert stopped.answer == whole.answer[: whole.answer.index(string)]
    assert stopped.end.reason == "stop"
    assert stopped.end.stop_string == string
    assert len(stopped.tokens) < len(whole.tokens)
    assert stopped.tokens == whole.tokens[: len(stopped.tokens)]


def test_a_beginning_that_stays_one_is_shown_at_the_end(engine: Engine) -> None:
    request = Request(
        prompt(9), state="answer", options=OutputOptions(sampling=SAMPLING, max_tokens=30)
    )
    [whole] = run(engine, request)
    [same] = run(engine, with_options(request, stop=(whole.answer[-5:] + "?",)))
    assert same.answer == whole.answer
    assert same.end.reason == "length"
    assert same.end.stop_string is None


def test_stop_strings_mean_nothing_in_reasoning(engine: Engine) -> None:
    request = Request(
        prompt(9),
        state="reasoning",
        options=OutputOptions(sampling=SAMPLING, max_tokens=90, thinking_budget=40),
    )
    [whole] = run(engine, request)
    thought, said = whole.reasoning[10:13], whole.answer[10:13]
    assert thought not in whole.answer
    [stopped] = run(engine, with_options(request, stop=(thought, said)))
    assert stopped.reasoning == whole.reasoning
    assert stopped.answer == whole.answer[: whole.answer.index(said)]
    assert stopped.end.stop_string == said


def test_min_tokens_puts_stop_strings_off(engine: Engine) -> None:
    request = Request(
        prompt(9), state="answer", options=OutputOptions(sampling=SAMPLING, max_tokens=60)
    )
    [whole] = run(engine, request)
    single = next(c for c in whole.answer if whole.answer.count(c) > 2)
    [stopped] = run(engine, with_options(request, stop=(single,)))
    [later] = run(engine, with_options(request, stop=(single,), min_tokens=20))
    assert len(stopped.tokens) < 20 < len(later.tokens)
    assert later.answer.startswith(stopped.answer + single)
    assert later.end.stop_string == single


def test_stopping_one_request_changes_no_other(engine: Engine) -> None:
    requests = [
        Request(
            prompt(9, seed=i),
            state="answer",
            options=OutputOptions(sampling=SAMPLING, max_tokens=30),
        )
        for i in range(3)
    ]
    alone = [run(engine, request)[0] for request in requests]
    string = alone[1].answer[8:10]
    together = run(
        engine,
        requests[0],
        with_options(requests[1], stop=(string,)),
        requests[2],
    )
    assert together[1].answer == alone[1].answer[: alone[1].answer.index(string)]
    assert [together[i].tokens for i in (0, 2)] == [alone[i].tokens for i in (0, 2)]


@pytest.mark.parametrize("stop", ["abc", ("a", ""), (1,)])
def test_what_is_no_tuple_of_strings_is_refused(stop: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match=r"stop (is 'abc'|holds (''|1)); it must"):
        Request(prompt(3), options=OutputOptions(stop=stop))
