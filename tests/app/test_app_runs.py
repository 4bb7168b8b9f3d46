"""Runs: what watchers see, what is saved, and who may end one."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise

import pytest

from magistral_mlx import GenerationOptions, Magistral, SamplingParams, open_model
from magistral_mlx.app.runs import run as run_module
from magistral_mlx.app.runs.registry import RunRegistry
from magistral_mlx.app.runs.run import AnswerRun, RunSnapshot
from magistral_mlx.app.store.branches import shown_path
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import EngineError, RequestError, UserError
from magistral_mlx.events import AnswerText, Failed, PrefillProgress, ReasoningText
from magistral_mlx.text.conversation import Message
from tests.scripted_model import finished, reply
from tests.scripted_stream import SteppedModel


class Desk:
    """A store, a registry and a question, for one test."""

    def __init__(self, *, grace: float | None = None) -> None:
        self.store = Store(None)
        self.registry = RunRegistry(self.store, grace=grace)
        self.model = SteppedModel()
        self.conversation = self.store.create_conversation("t").id
        self.question = self.ask("What is 12 + 30?")

    def ask(self, text: str) -> StoredMessage:
        return self.store.add_message(
            StoredMessage(conversation=self.conversation, parent=None, role="user", content=text)
        )

    def start(self, *, chains: int = 1, options: GenerationOptions | None = None) -> AnswerRun:
        return self.registry.start(
            self.model, self.question.id, options or GenerationOptions(), chains=chains
        )

    def answers(self) -> list[StoredMessage]:
        messages = self.store.messages(self.conversation)
        return [message for message in messages if message.role == "assistant"]


def until(run: AnswerRun, condition: Callable[[RunSnapshot], bool]) -> RunSnapshot:
    """The first snapshot for which the condition holds; fails after a minute and a half."""
    deadline = time.monotonic() + 90
    snapshot = run.snapshot()
    while not condition(snapshot):
        assert time.monotonic() < deadline, snapshot
        snapshot = run.wait(snapshot.version, 1)
    return snapshot


def test_a_watcher_sees_every_state_in_turn() -> None:
    desk = Desk()
    run = desk.start()
    (stream,) = desk.model.streams
    assert run.snapshot().state == "queued"
    stream.send(PrefillProgress(100, 190, 64))
    seen = until(run, lambda s: s.state == "prefill").chains[0]
    assert seen.prefill == PrefillProgress(100, 190, 64)
    assert seen.figures.cached_tokens == 64
    stream.send(ReasoningText("12 "), ReasoningText("+ 30"))
    seen = until(run, lambda s: s.chains[0].reasoning == "12 + 30").chains[0]
    assert (seen.state, seen.answer) == ("reasoning", "")
    assert (seen.figures.completion_tokens, seen.figures.reasoning_tokens) == (2, 2)
    assert seen.figures.seconds_to_first_token is not None
    stream.send(AnswerText("**42**"))
    assert until(run, lambda s: s.state == "answer").chains[0].answer == "**42**"
    stream.send(finished(forced=True))
    last = until(run, lambda s: s.ended)
    chain = last.chains[0]
    assert (last.state, chain.ending) == ("done", "stop")
    figures = chain.figures
    assert figures.reasoning_closed_by_force
    assert (figures.completion_tokens, figures.reasoning_tokens, figures.cached_tokens) == (
        152,
        96,
        0,
    )
    assert figures.tokens_per_second == 41.23


def test_versions_rise_with_every_change_and_waiting_ends_with_one() -> None:
    desk = Desk()
    run = desk.start()
    versions = [run.snapshot().version]
    for event in reply("think", "answer"):
        desk.model.streams[0].send(event)
        versions.append(run.wait(versions[-1], 10).version)
    assert all(before < after for before, after in pairwise(versions))
    last = until(run, lambda s: s.ended)
    begin = time.monotonic()
    assert run.wait(last.version, 10).version == last.version  # nothing more will come
    assert time.monotonic() - begin < 1


def test_waiting_without_a_change_ends_with_the_timeout() -> None:
    run = Desk().start()
    version = run.snapshot().version
    assert run.wait(version, 0.05).version == version


def test_an_ended_run_is_saved_before_anyone_sees_that_it_ended() -> None:
    desk = Desk()
    run = desk.start()
    desk.model.streams[0].send(*reply("12 + 30", "**42**"))
    until(run, lambda s: s.ended)
    (answer,) = desk.answers()
    assert (answer.content, answer.reasoning, answer.ending) == ("**42**", "12 + 30", "stop")
    assert answer.model == "stepped"
    assert answer.figures is not None
    assert (answer.figures.prompt_tokens, answer.figures.reasoning_tokens) == (190, 96)
    assert shown_path(desk.store, desk.conversation)[-1].message == answer
    assert desk.registry.of(desk.conversation) is None


def test_a_running_answer_is_saved_at_intervals_and_marked_as_unfinished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_module, "SAVE_SECONDS", 0.01)
    desk = Desk()
    run = desk.start()
    desk.model.streams[0].send(ReasoningText("half"), AnswerText("fo"))
    deadline = time.monotonic() + 10
    while not desk.answers()[0].content:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (answer,) = desk.answers()
    assert (answer.content, answer.reasoning, answer.ending) == ("fo", "half", None)
    run.stop()
    assert run.join(10)


def test_stop_keeps_what_was_written() -> None:
    desk = Desk()
    run = desk.start(chains=2)
    for stream in desk.model.streams:
        stream.send(ReasoningText("12"), AnswerText("4"))
    until(run, lambda s: all(chain.answer for chain in s.chains))
    run.stop()
    assert until(run, lambda s: s.ended).state == "stopped"
    assert [(a.content, a.ending) for a in desk.answers()] == [("4", "cancelled")] * 2


def test_answer_now_reaches_one_chain_or_all() -> None:
    desk = Desk()
    run = desk.start(chains=3)
    run.answer_now(1)
    run.answer_now()
    assert [stream.answered_now for stream in desk.model.streams] == [1, 2, 1]
    run.stop()


def test_the_model_is_asked_with_the_path_and_the_options() -> None:
    desk = Desk()
    options = GenerationOptions(thinking_budget=50)
    run = desk.registry.start(desk.model, desk.question.id, options, system="Be brief.")
    expected = [Message("system", "Be brief."), Message("user", "What is 12 + 30?")]
    assert desk.model.asked == [(expected, options)]
    assert run.snapshot().thinking_budget == 50
    run.stop()


def test_chains_are_siblings_of_one_group_with_seeds_of_their_own() -> None:
    desk = Desk()
    options = GenerationOptions(sampling=SamplingParams(seed=2**64 - 1))
    run = desk.start(chains=3, options=options)
    assert [asked.sampling.seed for _, asked in desk.model.asked] == [2**64 - 1, 0, 1]
    answers = desk.answers()
    assert {answer.parent for answer in answers} == {desk.question.id}
    assert {answer.group for answer in answers} == {run.id}
    run.stop()


def test_the_majority_is_shown_unless_the_user_went_elsewhere() -> None:
    for goes_elsewhere in (False, True):
        desk = Desk()
        run = desk.start(chains=3)
        if goes_elsewhere:
            elsewhere = desk.ask("another branch")
        for stream, answer in zip(desk.model.streams, ("**41**", "**42**", "**42**"), strict=True):
            stream.send(*reply("r", answer))
        assert run.join(10)
        expected = elsewhere.id if goes_elsewhere else desk.answers()[1].id
        assert desk.store.conversation(desk.conversation).leaf == expected


def test_a_chain_that_fails_leaves_the_others() -> None:
    desk = Desk()
    run = desk.start(chains=3)
    first, second, third = desk.model.streams
    first.send(AnswerText("4"), Failed("out of memory"))
    second.send(EngineError("The engine is closed."))
    third.send(*reply("r", "42"))
    last = until(run, lambda s: s.ended)
    assert last.state == "done"
    assert [(c.state, c.figures.error) for c in last.chains] == [
        ("failed", "out of memory"),
        ("failed", "The engine is closed."),
        ("done", None),
    ]
    figures = [answer.figures for answer in desk.answers()]
    assert [f and f.error for f in figures] == ["out of memory", "The engine is closed.", None]
    assert desk.answers()[0].ending == "failed"


def test_even_a_defect_in_a_stream_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    desk = Desk()
    run = desk.start()
    desk.model.streams[0].send(ZeroDivisionError())
    assert until(run, lambda s: s.ended).state == "failed"


@pytest.mark.parametrize("error", [RequestError("too long"), EngineError("closed")])
def test_a_refused_question_stores_nothing_and_cancels_what_was_begun(error: Exception) -> None:
    desk = Desk()
    desk.model = SteppedModel(None, error)
    with pytest.raises(UserError, match=str(error)):
        desk.start(chains=2)
    assert desk.answers() == []
    assert desk.model.streams[0].cancelled.is_set()
    desk.start().stop()


def test_a_conversation_has_one_run_at_a_time() -> None:
    desk = Desk()
    run = desk.start()
    with pytest.raises(UserError, match="stop it, or wait"):
        desk.start()
    assert desk.registry.of(desk.conversation) is run
    desk.registry.stop_all()
    assert desk.registry.running() == ()
    desk.start().stop()


@pytest.mark.parametrize("chains", [0, 9, -1])
def test_the_number_of_chains_is_limited(chains: int) -> None:
    with pytest.raises(UserError, match="choose 1 to 8"):
        Desk().start(chains=chains)


def test_a_run_ends_soon_after_its_last_watcher_has_gone_and_not_before() -> None:
    desk = Desk(grace=0.3)
    run = desk.start()
    one, two = ExitStack(), ExitStack()
    one.enter_context(run.watch())
    two.enter_context(run.watch())
    one.close()
    one.close()
    assert not run.join(0.8)  # two still watches
    two.close()
    assert run.join(5)
    assert desk.answers()[0].ending == "cancelled"


def test_a_tab_that_comes_back_in_time_finds_its_run() -> None:
    desk = Desk(grace=1.5)
    run = desk.start()
    for _ in range(4):
        found = desk.registry.of(desk.conversation)
        assert found is not None
        with found.watch():
            pass
        assert not run.join(0.5)
    assert run.join(5)


def test_nobody_watching_from_the_start_ends_it_too() -> None:
    assert Desk(grace=0.1).start().join(5)


def test_deleting_the_conversation_ends_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SAVE_SECONDS", 0.01)
    desk = Desk()
    run = desk.start()
    desk.store.delete(desk.conversation)
    assert run.join(5)
    assert desk.store.conversations() == []


def test_a_disk_that_fails_is_told_and_the_answer_goes_on() -> None:
    desk = Desk()
    run = desk.start()
    desk.store.close()
    desk.model.streams[0].send(*reply("r", "42"))
    last = until(run, lambda s: s.ended)
    assert last.chains[0].answer == "42"
    assert "cannot be read or saved" in (last.chains[0].figures.error or "")


def test_many_watchers_all_see_the_end() -> None:
    desk = Desk()
    run = desk.start()
    ends: list[RunSnapshot] = []
    threads = [
        threading.Thread(target=lambda: ends.append(until(run, lambda s: s.ended)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    desk.model.streams[0].send(*reply("think" * 50, "answer" * 50))
    for thread in threads:
        thread.join(10)
    assert {end.chains[0].answer for end in ends} == {"answer" * 50}
    assert len(ends) == 8


def test_a_watched_run_takes_under_a_millisecond_of_work_a_token() -> None:
    """A step of the smallest model takes about 20 ms: so the engine keeps 95 % of its speed."""
    desk = Desk()
    tokens = 2_000
    begin = time.process_time()
    run = desk.start()
    threads = [threading.Thread(target=look_a_dozen_times_a_second, args=(run,)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for number in range(tokens):
        desk.model.streams[0].send(ReasoningText(f"token {number} "))
    desk.model.streams[0].send(finished())
    for thread in threads:
        thread.join(30)
    assert run.join(0)
    assert (time.process_time() - begin) / tokens < 0.001


def look_a_dozen_times_a_second(run: AnswerRun) -> None:
    snapshot = run.snapshot()
    while not snapshot.ended:
        snapshot = run.wait(snapshot.version, 1)
        time.sleep(1 / 12)


@pytest.fixture(scope="module")
def demo() -> Iterator[Magistral]:
    with open_model("demo", window=1_024) as model:
        yield model


def greedy() -> GenerationOptions:
    return GenerationOptions(sampling=SamplingParams(temperature=0))


@pytest.mark.slow
def test_the_demo_answers_a_run_as_it_answers_without_one(demo: Magistral) -> None:
    desk = Desk()
    expected = demo.generate("What is 12 + 30?", greedy())
    run = desk.registry.start(demo, desk.question.id, greedy(), chains=2)
    last = until(run, lambda s: s.ended)
    for chain in last.chains:
        assert (chain.reasoning, chain.answer) == (expected.reasoning, expected.answer)
        assert chain.figures.reasoning_tokens == expected.usage.reasoning_tokens
    assert "42" in desk.answers()[0].content


@pytest.mark.slow
def test_the_tokens_counted_while_it_runs_are_nearly_the_engines(demo: Magistral) -> None:
    desk = Desk()
    run = desk.registry.start(demo, desk.question.id, greedy())
    counted = 0
    snapshot = run.snapshot()
    while not snapshot.ended:
        counted = (
            snapshot.chains[0].figures.completion_tokens
            if not snapshot.chains[0].ended
            else counted
        )
        snapshot = run.wait(snapshot.version, 10)
    # The tags and the end token give no text.
    assert 0 <= snapshot.chains[0].figures.completion_tokens - counted <= 12


@pytest.mark.slow
def test_the_demo_answers_now_and_stops_when_told(demo: Magistral) -> None:
    desk = Desk()
    options = replace(greedy(), reasoning="on")
    run = desk.registry.start(demo, desk.question.id, options)
    until(run, lambda s: s.state == "reasoning")
    run.answer_now()
    chain = until(run, lambda s: s.ended).chains[0]
    assert chain.figures.reasoning_closed_by_force
    assert chain.answer
    run = desk.registry.start(demo, desk.question.id, replace(greedy()))
    until(run, lambda s: s.state == "reasoning")
    run.stop()
    assert until(run, lambda s: s.ended).state == "stopped"
