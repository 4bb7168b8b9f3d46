"""The wait for the first text at turn two, reasoning dropped, beside `mlx_lm.server`.

Turn one is really generated on both sides, to the same lengths. Ours goes through `open_model`; its
shortened history is prefilled while nobody asks, and turn two comes when that is done. mlx-lm's
server keeps KV too, but the KV of what it generated, which the shortened history is not.

The nano: its prompts cost enough to prefill, and turn one takes half a minute.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from side_by_side.chat_server import ChatServer, mlx_lm_server
from side_by_side.measurement import Plan, Result, spread_note

import magistral_mlx
from magistral_mlx import AnswerText, Finished, GenerationOptions, ReasoningText, SamplingParams
from magistral_mlx.api import Magistral
from magistral_mlx.bench.pairs import Turns, in_turn, ratio_of
from magistral_mlx.engine.status import StepReport
from magistral_mlx.spec import SYSTEM_PROMPT
from magistral_mlx.text.conversation import Message
from magistral_mlx.text.tokenizer import Tokenizer

NEVER, ALWAYS = -100.0, 100.0
QUESTIONS = ("What is 12 + 30?", "What is 47 - 8?", "What is 6 x 14?", "What is 91 + 9?")
FOLLOW_UP = "And what is 7 + 25?"
REST = 1.0
"""Seconds between the turns in which nothing is computed."""


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Tokens of turn one."""

    reasoning: int
    answer: int


WARM_UP = _Lengths(reasoning=16, answer=16)


@dataclass(frozen=True, slots=True)
class _SecondTurn:
    """Seconds until the first text, and prompt tokens in all and run for it."""

    first_text: float
    prompt: int
    prefilled: int


def measure(plan: Plan) -> Result:
    """1,000 tokens of reasoning and 300 of answer, then a short question (quick: 64 and 48)."""
    lengths, rounds = (_Lengths(64, 48), 1) if plan.quick else (_Lengths(1_000, 300), 2)
    folder = plan.models.nano
    tokenizer = Tokenizer.open(folder)
    questions, others = iter(QUESTIONS[1:]), iter(QUESTIONS[1:])
    steps = _Steps()
    with (
        magistral_mlx.open_model(folder, on_step=steps.note) as model,
        mlx_lm_server(folder, plan.models.scratch / "server.log") as server,
    ):
        _ours(model, steps, WARM_UP, QUESTIONS[0])
        _theirs(server, tokenizer, WARM_UP, QUESTIONS[0])
        turns = in_turn(
            lambda: _ours(model, steps, lengths, next(questions)),
            lambda: _theirs(server, tokenizer, lengths, next(others)),
            rounds=rounds,
            done=plan.tick,
            warm_up=False,
        )
    return _result(turns, lengths, rounds)


class _Steps:
    """Notes when the engine's last step was."""

    def __init__(self) -> None:
        self._last = 0.0

    def note(self, report: StepReport) -> None:
        """On the engine's thread."""
        del report
        self._last = time.perf_counter()

    def wait_for_rest(self) -> None:
        """Until there has been no step for a while: what was to be prefilled is."""
        while (left := self._last + REST - time.perf_counter()) > 0:
            time.sleep(left)


def _ours(model: Magistral, steps: _Steps, lengths: _Lengths, question: str) -> _SecondTurn:
    total = lengths.reasoning + lengths.answer
    close, end = model.tokenizer.think_close_ids, model.tokenizer.eos_id
    bias = {end: ALWAYS, **dict.fromkeys(_closing(model.tokenizer, close), NEVER)}
    options = GenerationOptions(
        sampling=SamplingParams(temperature=0, logit_bias=bias),
        thinking_budget=lengths.reasoning,
        min_tokens=total,
        stop_repetition=False,
        reasoning="on",
    )
    first = model.generate(question, options)
    assert first.finish_reason == "stop", first
    steps.wait_for_rest()
    turns = [Message("user", question), Message("assistant", first.answer, first.reasoning)]
    return _first_text(model, [*turns, Message("user", FOLLOW_UP)])


def _closing(tokenizer: Tokenizer, close: Sequence[int]) -> list[int]:
    """Tokens that begin to close the reasoning: without them it lasts as long as the budget."""
    return [token for token in close if tokenizer.token_bytes(token).lstrip().startswith(b"</")]


def _first_text(model: Magistral, messages: Sequence[Message]) -> _SecondTurn:
    sampling = SamplingParams(temperature=0)
    options = GenerationOptions(sampling=sampling, max_tokens=8, reasoning="on")
    start, first = time.perf_counter(), 0.0
    for event in model.stream(messages, options):
        if isinstance(event, ReasoningText | AnswerText):
            first = first or time.perf_counter() - start
        elif isinstance(event, Finished):
            usage = event.usage
            return _SecondTurn(
                first, usage.prompt_tokens, usage.prompt_tokens - usage.cached_tokens
            )
    raise RuntimeError("The engine failed at turn two.")


def _theirs(
    server: ChatServer, tokenizer: Tokenizer, lengths: _Lengths, question: str
) -> _SecondTurn:
    messages = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": question},
    ]
    endless = {tokenizer.eos_id: NEVER}
    total = lengths.reasoning + lengths.answer
    first = server.chat(messages, max_tokens=total, logit_bias=endless)
    answer = tokenizer.decode(tokenizer.encode(first.text)[-lengths.answer :])
    messages += [
        {"role": "assistant", "content": answer},
        {"role": "user", "content": FOLLOW_UP},
    ]
    time.sleep(REST)
    second = server.chat(messages, max_tokens=8, logit_bias=endless)
    return _SecondTurn(
        second.first_text, second.prompt_tokens, second.prompt_tokens - second.cached_tokens
    )


def _result(turns: Turns[_SecondTurn, _SecondTurn], lengths: _Lengths, rounds: int) -> Result:
    sides = turns.ours, turns.theirs
    rows = {
        "first_text_s": ratio_of(*([t.first_text for t in side] for side in sides), inverse=True),
        "prefilled": ratio_of(*([float(t.prefilled) for t in s] for s in sides), inverse=True),
        "prompt": ratio_of(*([float(t.prompt) for t in side] for side in sides), inverse=True),
    }
    names = "first text, ms", "tokens prefilled for it", "tokens of the prompt"
    table = Table("turn two", "magistral-mlx", "mlx_lm.server", "theirs / ours")
    table.title = (
        f"After {lengths.reasoning:,} tokens of reasoning (dropped) and {lengths.answer} of answer"
    )
    table.caption = spread_note(rounds)
    for name, factor, ratio in zip(names, (1e3, 1, 1), rows.values(), strict=True):
        values = (f"{factor * value:,.0f}" for value in (ratio.ours, ratio.theirs))
        table.add_row(name, *values, ratio.cells()[2])
    figures: dict[str, object] = {"reasoning": lengths.reasoning, "answer": lengths.answer}
    return Result(
        table, [figures | {name: ratio.json(theirs="mlx_lm") for name, ratio in rows.items()}]
    )
