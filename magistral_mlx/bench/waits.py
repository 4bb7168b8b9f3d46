"""Waits beside mlx-lm: of a running stream while a prompt joins, and for the second turn."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import mlx.nn as nn
from rich.table import Table

import magistral_mlx
from magistral_mlx import AnswerText, Finished, GenerationOptions, ReasoningText, SamplingParams
from magistral_mlx.bench.bench_model import SideBySide, unlimited_engine
from magistral_mlx.bench.cases import random_ids
from magistral_mlx.bench.mlx_lm_contender import load_mlx_lm, mlx_lm_batch
from magistral_mlx.bench.openai_server import MLX_LM_SERVER, ChatClient, chat, served
from magistral_mlx.bench.recording import Recording, TimedOutput
from magistral_mlx.bench.report_parts import figures_table
from magistral_mlx.bench.spread import Ratio, in_turn
from magistral_mlx.bench.streams import Figures, json_figures
from magistral_mlx.demo.questions import held_out_questions
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.status import StepReport
from magistral_mlx.magistral import Magistral
from magistral_mlx.spec import SYSTEM_PROMPT
from magistral_mlx.text.conversation import Message, build_prompt
from magistral_mlx.text.tokenizer import Tokenizer

ALONE = 16
"""Tokens of the running stream before the prompt joins."""

MOST = 8_192
"""Most tokens of the running stream: more than are decoded while the prompt is prefilled."""

NEVER, ALWAYS = -100, 100
QUESTIONS = ("What is 12 + 30?", "What is 47 - 8?", "What is 6 x 14?", "What is 91 + 9?")
FOLLOW_UP = "And what is 7 + 25?"
REST = 1.0
"""Seconds between the turns in which nothing is computed."""

Waits = Mapping[str, float]


def measure_gap(models: SideBySide) -> tuple[Table, Figures]:
    """A prompt of 4,000 tokens (quick: 500) joins a stream of the demo model."""
    length, rounds = (500, 1) if models.quick else (4_000, 2)
    # A question that the demo model can answer, with Magistral's system prompt.
    question = Message("user", held_out_questions(1)[0].text)
    running = build_prompt(Tokenizer.open(models.demo), [question]).ids
    joining = random_ids(length)
    mlx_lm = load_mlx_lm(models.demo)
    with unlimited_engine(models.demo) as engine:
        sides = (
            partial(_join_ours, engine, running, joining),
            partial(_join_mlx_lm, mlx_lm, running, joining),
        )
        found = in_turn(sides, rounds=rounds, done=models.done, warm_up=False)
    title = f"A prompt of {length:,} tokens joins a stream of the demo model, seconds"
    return _compared(title, "mlx-lm", found, {"prompt": length})


def _compared(
    title: str, other: str, found: Sequence[Sequence[Waits]], settings: Mapping[str, object]
) -> tuple[Table, Figures]:
    """Figures of both sides, where less is better."""
    ratios = {
        name: Ratio.of(*([waits[name] for waits in side] for side in found), inverse=True)
        for name in found[0][0]
    }
    rows = [(name.replace("_", " "), *ratio.cells(",.4g")) for name, ratio in ratios.items()]
    columns = ("wait", "magistral-mlx", other, "theirs / ours")
    table = figures_table(title, columns, rows, left=columns[:1])
    return table, [{**settings, **json_figures(ratios)}]


def _join_ours(engine: Engine, running: list[int], joining: list[int]) -> Waits:
    stream = Recording(engine, running, MOST)
    stream.wait_for(ALONE)
    joined = Recording(engine, joining, 2).wait()
    stream.cancel()
    return _gaps(stream.wait(), joined)


def _join_mlx_lm(mlx_lm: nn.Module, running: list[int], joining: list[int]) -> Waits:
    with mlx_lm_batch(mlx_lm) as batch:
        (stream,) = batch.insert([running], MOST)
        while len(batch.outputs[stream].tokens) < ALONE:
            batch.step()
        (joined,) = batch.insert([joining], 2)
        while not batch.outputs[joined].tokens:
            batch.step()
        # The step that gave its first token began with one of the running stream.
        batch.step()
        return _gaps(batch.outputs[stream], batch.outputs[joined])


def _gaps(stream: TimedOutput, joined: TimedOutput) -> Waits:
    """Seconds: gaps of the running stream before and while a prompt joins; that one's wait."""
    meanwhile = stream.gaps(joined.submitted, joined.first)
    return {
        "usual_s": statistics.median(stream.gaps(stream.first, joined.submitted)),
        "median_s": statistics.median(meanwhile),
        "longest_s": max(meanwhile),
        "first_token_s": joined.wait,
    }


@dataclass(frozen=True, slots=True)
class _TurnOne:
    """Tokens of the first turn."""

    reasoning: int
    answer: int


def measure_second_turn(models: SideBySide) -> tuple[Table, Figures]:
    """The wait for the first text of turn two, without the reasoning of turn one.

    Turn one has 1,000 tokens of reasoning and 300 of answer (quick: 64 and 48), generated on both
    sides. Ours goes through `open_model`, and turn two starts after its idle prefill.
    `mlx_lm.server` keeps the KV of what it generated, which the shortened history does not match.
    """
    one, rounds = (_TurnOne(64, 48), 1) if models.quick else (_TurnOne(1_000, 300), 2)
    tokenizer = Tokenizer.open(models.demo)
    questions, others = iter(QUESTIONS[1:]), iter(QUESTIONS[1:])
    steps = _Steps()
    with (
        magistral_mlx.open_model(models.demo, on_step=steps.note) as model,
        served(MLX_LM_SERVER, models.demo) as server,
    ):
        _ours(model, steps, _TurnOne(16, 16), QUESTIONS[0])  # warm up
        _theirs(server, tokenizer, _TurnOne(16, 16), QUESTIONS[0])
        sides = (
            lambda: _ours(model, steps, one, next(questions)),
            lambda: _theirs(server, tokenizer, one, next(others)),
        )
        found = in_turn(sides, rounds=rounds, done=models.done, warm_up=False)
    title = (
        f"Turn two after {one.reasoning:,} tokens of reasoning (dropped), {one.answer} of answer"
    )
    settings = {"reasoning": one.reasoning, "answer": one.answer}
    return _compared(title, MLX_LM_SERVER, found, settings)


def _turn_two(first_text: float, prompt: int, cached: int) -> Waits:
    """Seconds until the first text; tokens prefilled for it, and of the prompt."""
    prefilled, whole = float(prompt - cached), float(prompt)
    return {"first_text_s": first_text, "prefilled": prefilled, "prompt": whole}


class _Steps:
    """Notes the time of the engine's latest step."""

    def __init__(self) -> None:
        self._last = 0.0

    def note(self, report: StepReport) -> None:
        """On the engine's thread."""
        del report
        self._last = time.perf_counter()

    def wait_for_rest(self) -> None:
        """Return when there has been no step for a while: the idle prefill has ended."""
        while (left := self._last + REST - time.perf_counter()) > 0:
            time.sleep(left)


def _ours(model: Magistral, steps: _Steps, one: _TurnOne, question: str) -> Waits:
    tokenizer = model.tokenizer
    # Without the tokens that could close it, the reasoning fills its budget.
    closing = [
        token
        for token in tokenizer.think_close_ids
        if tokenizer.token_bytes(token).lstrip().startswith(b"</")
    ]
    bias: dict[int, float] = {tokenizer.eos_id: ALWAYS, **dict.fromkeys(closing, NEVER)}
    options = GenerationOptions(
        sampling=SamplingParams(temperature=0, logit_bias=bias),
        thinking_budget=one.reasoning,
        min_tokens=one.reasoning + one.answer,
        stop_repetition=False,
        reasoning="on",
    )
    first = model.generate(question, options)
    assert first.finish_reason == "stop", first
    steps.wait_for_rest()
    turns = [Message("user", question), Message("assistant", first.answer, first.reasoning)]
    return _first_text(model, [*turns, Message("user", FOLLOW_UP)])


def _first_text(model: Magistral, messages: Sequence[Message]) -> Waits:
    sampling = SamplingParams(temperature=0)
    options = GenerationOptions(sampling=sampling, max_tokens=8, reasoning="on")
    start, first = time.perf_counter(), 0.0
    for event in model.stream(messages, options):
        if isinstance(event, ReasoningText | AnswerText):
            first = first or time.perf_counter() - start
        elif isinstance(event, Finished):
            return _turn_two(first, event.usage.prompt_tokens, event.usage.cached_tokens)
    raise RuntimeError("The engine failed at turn two.")


def _theirs(server: ChatClient, tokenizer: Tokenizer, one: _TurnOne, question: str) -> Waits:
    endless = {tokenizer.eos_id: NEVER}
    tokens = one.reasoning + one.answer
    first = server.ask(chat(SYSTEM_PROMPT, question), tokens, logit_bias=endless)
    answer = tokenizer.decode(tokenizer.encode(first.text)[-one.answer :])
    time.sleep(REST)
    messages = chat(SYSTEM_PROMPT, question, answer, FOLLOW_UP)
    second = server.ask(messages, 8, logit_bias=endless)
    return _turn_two(second.output.wait, second.prompt_tokens, second.cached_tokens)
