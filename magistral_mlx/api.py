"""The public API: open a model, generate, stream. Text in, text out."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import mlx.core as mx

from magistral_mlx.answer_stream import AnswerStream
from magistral_mlx.checkpoint import Checkpoint, open_checkpoint
from magistral_mlx.conversation import Message, Prompt, ToolCall, build_prompt
from magistral_mlx.engine import Engine
from magistral_mlx.engine_loop import DeviceOptions
from magistral_mlx.engine_status import EngineStatus, StepReport
from magistral_mlx.errors import RequestError
from magistral_mlx.events import (
    AnswerText,
    Failed,
    Finished,
    FinishReason,
    ReasoningText,
    Timings,
    TokenLogprob,
    ToolCallEvent,
    Usage,
)
from magistral_mlx.folders import cache_folder
from magistral_mlx.kv_cache import kv_precision
from magistral_mlx.kv_folder import kv_folder
from magistral_mlx.kv_store import KVStore
from magistral_mlx.machine_plan import plan_for_this_machine
from magistral_mlx.memory import MemoryPlan
from magistral_mlx.model import compute_dtype
from magistral_mlx.next_turn import next_turn_ids
from magistral_mlx.options import GenerationOptions
from magistral_mlx.request import Request, make_request
from magistral_mlx.spec import WINDOW
from magistral_mlx.stream import EngineError
from magistral_mlx.tokenizer import Tokenizer
from magistral_mlx.tool_calls import ToolCallCollector

logger = logging.getLogger(__name__)

_DTYPES = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole output: what the model thought, what it answers, and how it went.

    logprobs: of the answer's tokens, where they were asked for.
    stop_string: the one that ended the answer, where one did.
    tool_calls: what the model asks to have called; send the results with a message of role tool.
    """

    reasoning: str
    answer: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    reasoning_closed_by_force: bool
    logprobs: tuple[TokenLogprob, ...] = ()
    stop_string: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()


def open_model(
    model: str | Path = "demo",
    *,
    window: int | None = None,
    dtype: str | None = None,
    kv_bits: int | None = None,
    kv_start: int = 0,
    kv_disk: int | None = None,
    wired: bool = False,
    on_step: Callable[[StepReport], None] | None = None,
) -> "Magistral":
    """Open a converted model and load its weights; close it after use, or use `with`.

    Args:
        model: an MLX folder, or "demo" for the embedded nano model, which is converted at the
            first time.
        window: tokens of prompt and output together; by default 40,960 (model card), or what the
            checkpoint and this machine's memory allow.
        dtype: "bfloat16", "float16" or "float32" to compute in; by default the checkpoint's, and
            float32 on MLX's CPU backend.
        kv_bits: 16 (as computed), 8 or 4 bits a value of the KV cache; by default as many as leave
            the window most of its length on this machine (memory.plan). A request may choose
            its own.
        kv_start: tokens at the beginning of a sequence that are never quantised.
        kv_disk: bytes on disk, for all models together, to keep the KV of finished prompts and
            answers in, so that prompts that begin alike start sooner, also after a restart. The
            files hold the conversations' tokens, for this user alone. None: nothing is kept.
        wired: keep what is planned in memory that macOS cannot page out. Off, because 32 GB Macs
            have panicked with it (mlx 3186, mlx-lm 1666).
        on_step: is told of every step, on the engine's thread: be quick.

    Raises:
        CheckpointError: the folder is missing, damaged, or holds another kind of model.
        RequestError: an option is not possible here, or the disk cannot be used.
        MemoryPlanError: the model and its window do not fit this machine.
    """
    checkpoint = open_checkpoint(_demo_folder() if model == "demo" else Path(model).expanduser())
    _check_window(window, checkpoint)
    compute = _dtype(dtype)
    kv_precision(kv_bits, start=kv_start)  # refused before anything is planned
    made = plan_for_this_machine(checkpoint.config, window=window, kv_bits=kv_bits, dtype=dtype)
    tokenizer = Tokenizer.open(checkpoint.tokenizer_file)
    kv_bytes = made.kv + made.prefix_cache
    engine = Engine(
        checkpoint,
        tokenizer,
        window=made.window,
        device=_device(made, compute, wired=wired),
        kv_bytes=kv_bytes,
        kv_precision=kv_precision(made.kv_bits, start=kv_start),
        prefix_bytes=kv_bytes,
        kv_store=_kv_store(kv_disk, checkpoint, compute),
        costs_folder=cache_folder(),
        on_step=on_step,
    )
    return Magistral(checkpoint, tokenizer, engine, made)


class Magistral(AbstractContextManager["Magistral"]):
    """An open model. Threads may share it: requests that overlap are batched."""

    def __init__(
        self, checkpoint: Checkpoint, tokenizer: Tokenizer, engine: Engine, plan: MemoryPlan
    ) -> None:
        """Use `open_model`."""
        self.checkpoint = checkpoint
        self.tokenizer = tokenizer
        self.engine = engine
        self.plan = plan

    @property
    def name(self) -> str:
        """The name of the model's folder."""
        return self.checkpoint.folder.name

    @property
    def window(self) -> int:
        """Tokens that prompt and output may have together."""
        return self.engine.window

    def stream(
        self,
        messages: str | Sequence[Message],
        options: GenerationOptions | None = None,
    ) -> AnswerStream:
        """Events of one answer as they come; the last is Finished or Failed.

        Closing the stream, or leaving a `for` loop over it, cancels the answer.

        Raises RequestError, before the first event, for messages or options that are refused.
        """
        chosen = options or GenerationOptions()
        turns = _turns(messages)
        return AnswerStream(
            self.engine.submit(self.request(turns, chosen)),
            lambda answer, end: self.prepare_next_turn(turns, answer, chosen, end),
        )

    def request(self, messages: Sequence[Message], options: GenerationOptions) -> Request:
        """The engine's request for the next answer, for callers that submit it themselves.

        Raises RequestError for messages or options that are refused.
        """
        prompt = self._prompt(messages, options)
        guided = replace(options, guidance=options.grammar)
        request = make_request(tuple(prompt.ids), prompt.state, guided)
        # A call of a tool that was never offered would be lost as an event: it is shown as text.
        return replace(request, tool_calls=bool(options.tools))

    def raw_request(self, prompt: Sequence[int], options: GenerationOptions) -> Request:
        """The same for a prompt of ids, after which all output is text of the answer."""
        return replace(make_request(tuple(prompt), "answer", options), tool_calls=False)

    def generate(
        self,
        messages: str | Sequence[Message],
        options: GenerationOptions | None = None,
    ) -> Reply:
        """The whole answer at once.

        Raises:
            RequestError: messages or options are refused.
            EngineError: the engine failed in the middle of the answer.
        """
        reasoning: list[str] = []
        answer: list[str] = []
        logprobs: list[TokenLogprob] = []
        calls = ToolCallCollector()
        for event in self.stream(messages, options):
            if isinstance(event, ReasoningText):
                reasoning.append(event.text)
            elif isinstance(event, AnswerText):
                answer.append(event.text)
                logprobs += event.logprobs
            elif isinstance(event, ToolCallEvent):
                calls.add(event)
            elif isinstance(event, Failed):
                raise EngineError(event.message)
            elif isinstance(event, Finished):
                return Reply(
                    "".join(reasoning),
                    "".join(answer),
                    event.reason,
                    event.usage,
                    event.timings,
                    event.reasoning_closed_by_force,
                    tuple(logprobs),
                    event.stop_string,
                    calls.calls,
                )
        raise EngineError("The engine ended without an answer.")

    def prompt_tokens(
        self,
        messages: str | Sequence[Message],
        options: GenerationOptions | None = None,
    ) -> int:
        """Tokens that the messages take of the window, system prompt included."""
        return len(self._prompt(_turns(messages), options or GenerationOptions()).ids)

    @property
    def status(self) -> EngineStatus:
        """What runs, what waits, and the KV of both."""
        return self.engine.status

    def close(self) -> None:
        """Cancel what runs and free the model's memory."""
        self.engine.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def prepare_next_turn(
        self, turns: Sequence[Message], answer: str, options: GenerationOptions, end: Finished
    ) -> None:
        """While the user reads, prefill the history as the next prompt will have it."""
        if options.history == "keep" or not end.usage.reasoning_tokens or turns[-1].role != "user":
            return  # then what is in the KV cache already is the beginning of the next prompt
        ids = next_turn_ids(
            self.tokenizer,
            turns,
            Message("assistant", answer),
            reasoning=options.reasoning,
            history=options.history,
            system=options.system,
            tools=options.tools,
        )
        self.engine.prefill_when_idle(ids, kv_precision=options.kv_precision)

    def _prompt(self, turns: Sequence[Message], options: GenerationOptions) -> Prompt:
        return build_prompt(
            self.tokenizer,
            turns,
            reasoning=options.reasoning,
            history=options.history,
            system=options.system,
            tools=options.tools,
        )


def _turns(messages: str | Sequence[Message]) -> Sequence[Message]:
    return [Message("user", messages)] if isinstance(messages, str) else messages


def _demo_folder() -> Path:
    # The runtime needs the converter for nothing else.
    from magistral_mlx.convert import convert, default_output

    folder = default_output("demo", bits=4)
    return folder if folder.is_dir() else convert("demo")


def _kv_store(limit: int | None, checkpoint: Checkpoint, dtype: mx.Dtype | None) -> KVStore | None:
    if limit is None:
        return None
    if limit < 1:
        raise RequestError(f"kv_disk is {limit}: give bytes, or leave it out.")
    computed = dtype or compute_dtype(checkpoint.config.dtype)
    return KVStore(kv_folder(), limit=limit, checkpoint=checkpoint, dtype=computed)


def _device(made: MemoryPlan, dtype: mx.Dtype | None, *, wired: bool) -> DeviceOptions:
    if wired and not mx.metal.is_available():
        raise RequestError("Memory can be wired on a Mac with Metal only: leave --wired out.")
    return DeviceOptions(
        dtype=dtype,
        # What one layer frees serves the next, and what a step frees too where there is headroom.
        spare_bytes=max(made.step // 2, min(made.step, made.headroom)),
        wired_bytes=made.limit - made.headroom if wired else None,
    )


def _check_window(window: int | None, checkpoint: Checkpoint) -> None:
    longest = checkpoint.config.max_position_embeddings
    if window is None:
        return
    if not 1 <= window <= longest:
        raise RequestError(
            f"A window of {window:,} tokens is not possible: {checkpoint.folder.name} has "
            f"{longest:,} positions, so choose 1 to {longest:,}."
        )
    if window > WINDOW:
        logger.warning(
            "A window of %s tokens: the model card promises no quality beyond %s.",
            f"{window:,}",
            f"{WINDOW:,}",
        )


def _dtype(name: str | None) -> mx.Dtype | None:
    if name is None:
        return None
    if name not in _DTYPES:
        raise RequestError(f"dtype {name!r} is unknown: use one of {', '.join(_DTYPES)}.")
    return _DTYPES[name]
