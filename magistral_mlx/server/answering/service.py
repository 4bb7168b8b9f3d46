"""What the routes share: the model, the limits, the figures."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from pydantic import BaseModel
from starlette.requests import Request as HttpRequest

from magistral_mlx.api import Magistral
from magistral_mlx.engine.engine import MAX_RUNNING
from magistral_mlx.engine.request import Request
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import MAX_SEED
from magistral_mlx.server.answering.admission import Admission
from magistral_mlx.server.answering.errors import ApiError
from magistral_mlx.server.answering.metrics import Metrics
from magistral_mlx.server.answering.model_slot import ModelSlot
from magistral_mlx.server.answering.records import RequestRecord, at_end, record_of
from magistral_mlx.server.answering.running import RunningAnswers
from magistral_mlx.server.answering.settings import ServerSettings
from magistral_mlx.text.conversation import Message


class Service:
    """Begins answers and counts them when they end. Only the event loop uses it."""

    def __init__(self, slot: ModelSlot, settings: ServerSettings, metrics: Metrics) -> None:
        self.slot = slot
        self.settings = settings
        self.metrics = metrics
        self.admission = Admission(
            running=MAX_RUNNING, queue=settings.queue, per_key=settings.per_key
        )
        self._running: set[RunningAnswers] = set()
        self._background: set[asyncio.Task[None]] = set()

    def accept(
        self, http: HttpRequest, asked: BaseModel, *, model: str, user: str | None, prompt: str
    ) -> None:
        """Check the model's name, and put the user into the log.

        prompt: the field of `asked` that is logged too, if the operator wants it.

        Raises ApiError when the model is another one, or not ready.
        """
        self.slot.check_name(model)
        details = record_of(http.scope).details
        if user is not None:
            details["user"] = user
        if self.settings.log_prompts:
            details["prompt"] = asked.model_dump(mode="json", exclude_unset=True)[prompt]

    def check_messages(self, count: int, *, param: str = "messages") -> None:
        """Raises ApiError (400) if a conversation has too many messages."""
        limit = self.settings.max_messages
        if count > limit:
            message = f"Too many messages: {count:,}; the limit is {limit:,}."
            raise ApiError(400, message, code="too_many_messages", param=param)

    def check_choices(self, count: int) -> int:
        """The same count. Raises ApiError (400) if a request is for too many answers."""
        limit = self.settings.max_choices
        if count > limit:
            message = f"Too many answers: {count:,}; the limit is {limit:,}: lower n."
            raise ApiError(400, message, code="invalid_value", param="n")
        return count

    async def begin_chat(
        self,
        http: HttpRequest,
        messages: Sequence[Message],
        options: GenerationOptions,
        *,
        choices: int = 1,
    ) -> RunningAnswers:
        """Begin `choices` answers to a conversation.

        Raises RequestError or ApiError when it is refused.
        """
        options = replace(options, timeout=self.settings.request_timeout)

        def requests(model: Magistral) -> list[Request]:
            return several(model.request(messages, options), choices)

        answers = await self.begin(http, requests, choices)
        answers.at_close.callback(self._prepare_next_turn, answers, messages, options)
        return answers

    async def begin(
        self, http: HttpRequest, requests: Callable[[Magistral], list[Request]], count: int
    ) -> RunningAnswers:
        """Begin `count` answers. They end with the HTTP request, whatever happens to it.

        requests: makes the engine's requests; called in a thread.

        Raises RequestError or ApiError when they are refused.
        """
        model, record = self.slot.get(), record_of(http.scope)
        closing = at_end(http.scope).enter_context(ExitStack())
        closing.enter_context(self.admission.places(http.state.client, count))
        answers = RunningAnswers(model, count, settings=self.settings, at_close=closing)
        closing.callback(self._count, answers, record)
        at_end(http.scope).callback(answers.close)
        self._running.add(answers)
        await asyncio.to_thread(lambda: answers.submit(requests(model)))
        return answers

    def cancel_all(self) -> None:
        """End every answer where it is: the time for stopping is up."""
        for answers in list(self._running):
            answers.cancel()

    def _count(self, answers: RunningAnswers, record: RequestRecord) -> None:
        self._running.discard(answers)
        if not answers.begun:
            return
        ends = [builder.end for builder in answers.builders if builder.end is not None]
        record.add_work(ends, answers.reasons())
        self.metrics.answers(ends, answers.reasons())

    def _prepare_next_turn(
        self, answers: RunningAnswers, messages: Sequence[Message], options: GenerationOptions
    ) -> None:
        """Prefill the history, as the next prompt will have it, while the user reads."""
        builder = answers.builders[0]
        end = builder.end
        if answers.count > 1 or builder.has_calls or end is None or end.reason != "stop":
            return
        prepare = answers.model.prepare_next_turn
        work = asyncio.to_thread(prepare, messages, builder.reply().answer, options, end)
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def several(request: Request, choices: int) -> list[Request]:
    """The same request several times; with a seed, each draws with its own."""
    options, seed = request.options, request.options.sampling.seed
    if seed is None:
        return [request] * choices
    samplings = [
        replace(options.sampling, seed=(seed + choice) % (MAX_SEED + 1))
        for choice in range(choices)
    ]
    return [replace(request, options=replace(options, sampling=one)) for one in samplings]
