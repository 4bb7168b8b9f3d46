"""Waits beside mlx-lm: of a running stream while a prompt joins, and for the second turn."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rich.table import Table

import magistral_mlx
from magistral_mlx import AnswerText, Finished, GenerationOptions, ReasoningText, SamplingParams
from magistral_mlx.bench.bench_model import SideBySide, unlimited_engine
from magistral_mlx.bench.cases import random_ids
from magistral_mlx.bench.decoding import Figures, cells, comparison_table, question_ids
from magistral_mlx.bench.mlx_lm_contender import MlxLm, load_mlx_lm, mlx_lm_batch
from magistral_mlx.bench.openai_server import MLX_LM_SERVER, ChatClient, chat, served
from magistral_mlx.bench.recording import Recording, TimedOutput
from magistral_mlx.bench.spread import Ratio, in_turn
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.status import StepReport
from magistral_mlx.magistral import Magistral
from magistral_mlx.spec import SYSTEM_PROMPT
from magistral_mlx.text.conversation import Message
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


@dataclass(frozen=True, slots=True)
class _Joining:
    """Seconds: gaps of the running stream before and while a prompt joins; that one's wait."""

    usual: float
    median: float
    longest: float
    first_token: float

    @classmethod
    def of(cls, stream: TimedOutput, joined: TimedOutput) -> "_Joining":
        meanwhile = stream.gaps(joined.submitted, joined.first)
        return cls(
            usual=statistics.median(stream.gaps(stream.first, joined.submitted)),
            median=statistics.median(meanwhile),
            longest=max(meanwhile),
            first_token=joined.wait,
        )


def measure_gap(models: SideBySide) -> tuple[Table, Figures]:
    """A prompt of 4,000 tokens (quick: 500) joins a stream of the demo model."""
    length, rounds = (500, 1) if models.quick else (4_000, 2)
    running, joining = question_ids(models.demo), random_ids(length)
    mlx_lm = load_mlx_lm(models.demo)
    with unlimited_engine(models.demo) as engine:
        sides = (
            partial(_join_ours, engine, running, joining),
            partial(_join_mlx_lm, mlx_lm, running, joining),
        )
        found = in_turn(sides, rounds=rounds, done=models.done, warm_up=False)
    rows = {
        "usual": "gap before",
        "median": "gap while it joins, median",
        "longest": "gap while it joins, longest",
        "first_token": "wait of the joining one",
    }
    title = f"A prompt of {length:,} tokens joins a stream of the demo model, milliseconds"
    table = comparison_table(title, "", "magistral-mlx", "mlx-lm", "theirs / ours", rounds=rounds)
    figures: dict[str, object] = {"prompt": length}
    for name, label in rows.items():
        ratio = _ratio(found, name)
        table.add_row(label, *cells(ratio, style=",.0f", scale=1e3))
        figures[f"{name}_s"] = ratio.json(theirs="mlx_lm")
    return table, [figures]


def _ratio(sides: Sequence[Sequence[object]], name: str) -> Ratio:
    """Of one field; less is better."""
    return Ratio.of(*([float(getattr(one, name)) for one in side] for side in sides), inverse=True)


def _join_ours(engine: Engine, running: list[int], joining: list[int]) -> _Joining:
    stream = Recording(engine, running, MOST)
    stream.wait_for(ALONE)
    joined = Recording(engine, joining, 2).wait()
    stream.cancel()
    return _Joining.of(stream.wait(), joined)


def _join_mlx_lm(mlx_lm: MlxLm, running: list[int], joining: list[int]) -> _Joining:
    with mlx_lm_batch(mlx_lm) as batch:
        (stream,) = batch.insert([running], MOST)
        while len(batch.outputs[stream].tokens) < ALONE:
            batch.step()
        (joined,) = batch.insert([joining], 2)
        while not batch.outputs[joined].tokens:
            batch.step()
        # The step that gave its first token began with one of the running stream.
        batch.step()
        return _Joining.of(batch.outputs[stream], batch.outputs[joined])


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Tokens of turn one."""

    reasoning: int
    answer: int

    @property
    def total(self) -> int:
        return self.reasoning + self.answer


WARM_UP = _Lengths(reasoning=16, answer=16)


@dataclass(frozen=True, slots=True)
class _SecondTurn:
    """Seconds until the first text; tokens of the prompt, and how many were prefilled."""

    first_text: float
    prompt: int
    prefilled: int


def measure_second_turn(models: SideBySide) -> tuple[Table, Figures]:
    """The wait for the first text of turn two, without the reasoning of turn one.

    Turn one has 1,000 tokens of reasoning and 300 of answer (quick: 64 and 48), generated on both
    sides. Ours goes through `open_model`, and turn two starts after its idle prefill.
    `mlx_lm.server` keeps the KV of what it generated, which the shortened history does not match.
    """
    lengths, rounds = (_Lengths(64, 48), 1) if models.quick else (_Lengths(1_000, 300), 2)
    tokenizer = Tokenizer.open(models.demo)
    questions, others = iter(QUESTIONS[1:]), iter(QUESTIONS[1:])
    steps = _Steps()
    with (
        magistral_mlx.open_model(models.demo, on_step=steps.note) as model,
        served(MLX_LM_SERVER, models.demo) as server,
    ):
        _ours(model, steps, WARM_UP, QUESTIONS[0])
        _theirs(server, tokenizer, WARM_UP, QUESTIONS[0])
        sides = (
            lambda: _ours(model, steps, lengths, next(questions)),
            lambda: _theirs(server, tokenizer, lengths, next(others)),
        )
        found = in_turn(sides, rounds=rounds, done=models.done, warm_up=False)
    title = (
        f"After {lengths.reasoning:,} tokens of reasoning (dropped) and {lengths.answer} of answer"
    )
    columns = ("turn two", "magistral-mlx", MLX_LM_SERVER, "theirs / ours")
    table = comparison_table(title, *columns, rounds=rounds)
    first_text, prefilled, prompt = (
        _ratio(found, name) for name in ("first_text", "prefilled", "prompt")
    )
    table.add_row("first text, ms", *cells(first_text, style=",.0f", scale=1e3))
    table.add_row("tokens prefilled for it", *cells(prefilled, style=",.0f"))
    table.add_row("tokens of the prompt", *cells(prompt, style=",.0f"))
    ratios = {"first_text_s": first_text, "prefilled": prefilled, "prompt": prompt}
    figures: dict[str, object] = {"reasoning": lengths.reasoning, "answer": lengths.answer}
    return table, [figures | {name: ratio.json(theirs="mlx_lm") for name, ratio in ratios.items()}]


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


def _ours(model: Magistral, steps: _Steps, lengths: _Lengths, question: str) -> _SecondTurn:
    tokenizer = model.tokenizer
    # Without the tokens that could close it, the reasoning fills its budget.
    closing = [t for t in tokenizer.think_close_ids if _closes(tokenizer.token_bytes(t))]
    bias: dict[int, float] = {tokenizer.eos_id: ALWAYS, **dict.fromkeys(closing, NEVER)}
    options = GenerationOptions(
        sampling=SamplingParams(temperature=0, logit_bias=bias),
        thinking_budget=lengths.reasoning,
        min_tokens=lengths.total,
        stop_repetition=False,
        reasoning="on",
    )
    first = model.generate(question, options)
    assert first.finish_reason == "stop", first
    steps.wait_for_rest()
    turns = [Message("user", question), Message("assistant", first.answer, first.reasoning)]
    return _first_text(model, [*turns, Message("user", FOLLOW_UP)])


def _closes(piece: bytes) -> bool:
    return piece.lstrip().startswith(b"</")


def _first_text(model: Magistral, messages: Sequence[Message]) -> _SecondTurn:
    sampling = SamplingParams(temperature=0)
    options = GenerationOptions(sampling=sampling, max_tokens=8, reasoning="on")
    start, first = time.perf_counter(), 0.0
    for event in model.stream(messages, options):
        if isinstance(event, ReasoningText | AnswerText):
            first = first or time.perf_counter() - start
        elif isinstance(event, Finished):
            usage = event.usage
            prefilled = usage.prompt_tokens - usage.cached_tokens
            return _SecondTurn(first, usage.prompt_tokens, prefilled)
    raise RuntimeError("The engine failed at turn two.")


def _theirs(
    server: ChatClient, tokenizer: Tokenizer, lengths: _Lengths, question: str
) -> _SecondTurn:
    endless = {tokenizer.eos_id: NEVER}
    first = server.ask(chat(SYSTEM_PROMPT, question), lengths.total, logit_bias=endless)
    answer = tokenizer.decode(tokenizer.encode(first.text)[-lengths.answer :])
    time.sleep(REST)
    messages = chat(SYSTEM_PROMPT, question, answer, FOLLOW_UP)
    second = server.ask(messages, 8, logit_bias=endless)
    prefilled = second.prompt_tokens - second.cached_tokens
    return _SecondTurn(second.output.wait, second.prompt_tokens, prefilled)
