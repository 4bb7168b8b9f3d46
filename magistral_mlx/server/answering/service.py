"""What the routes share: the model, the limits, the figures."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from starlette.requests import Request as HttpRequest

from magistral_mlx.api import Magistral
from magistral_mlx.engine.engine import MAX_RUNNING
from magistral_mlx.engine.request import Request
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import MAX_SEED
from magistral_mlx.server.answering.admission import Admission
from magistral_mlx.server.answering.metrics import Metrics
from magistral_mlx.server.answering.model_slot import ModelSlot
from magistral_mlx.server.answering.running import RunningAnswers
from magistral_mlx.server.layers.records import record_of
from magistral_mlx.server.settings import ServerSettings
from magistral_mlx.text.conversation import Message


class Service:
    """Begins answers and settles them. Only the event loop uses it."""

    def __init__(self, slot: ModelSlot, settings: ServerSettings, metrics: Metrics) -> None:
        self.slot = slot
        self.settings = settings
        self.metrics = metrics
        self._admission = Admission(
            running=MAX_RUNNING, queue=settings.queue, per_key=settings.per_key
        )
        self._running: set[RunningAnswers] = set()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> int:
        """Answers that run or wait."""
        return self._admission.active

    async def begin_chat(
        self,
        http: HttpRequest,
        messages: Sequence[Message],
        options: GenerationOptions,
        *,
        choices: int = 1,
    ) -> RunningAnswers:
        """Have a conversation continued, so many times.

        Raises RequestError or ApiError when it is refused.
        """
        options = replace(options, timeout=self.settings.request_timeout)

        def requests(model: Magistral) -> list[Request]:
            return several(model.request(messages, options), choices)

        def settle(answers: RunningAnswers) -> None:
            self._prepare_next_turn(answers, messages, options)

        return await self._begin(http, requests, choices, settle)

    async def begin_raw(
        self, http: HttpRequest, requests: Callable[[Magistral], list[Request]], choices: int
    ) -> RunningAnswers:
        """Have requests answered that are in token ids already."""

        def timed(model: Magistral) -> list[Request]:
            timeout = self.settings.request_timeout
            return [
                replace(request, options=replace(request.options, timeout=timeout))
                for request in requests(model)
            ]

        return await self._begin(http, timed, choices, lambda _: None)

    def cancel_all(self) -> None:
        """End every answer where it is: the time for stopping is up."""
        for answers in list(self._running):
            answers.cancel()

    async def _begin(
        self,
        http: HttpRequest,
        requests: Callable[[Magistral], list[Request]],
        count: int,
        settle: Callable[[RunningAnswers], None],
    ) -> RunningAnswers:
        model = self.slot.get()
        record, client = record_of(http), http.state.client
        self._admission.enter(client, count)

        def close(answers: RunningAnswers, seconds: float) -> None:
            self._admission.leave(client, count, seconds=seconds)
            self._running.discard(answers)
            if not answers.begun:
                return
            ends = [builder.end for builder in answers.builders if builder.end is not None]
            record.add_work(ends, answers.reasons())
            for reason in answers.reasons():
                self.metrics.ended(reason)
            for end in ends:
                self.metrics.answer(end)
            settle(answers)

        answers = RunningAnswers(model, count, settings=self.settings, on_close=close)
        self._running.add(answers)
        try:
            await asyncio.to_thread(lambda: answers.submit(requests(model)))
        except BaseException:
            answers.close()
            raise
        return answers

    def _prepare_next_turn(
        self, answers: RunningAnswers, messages: Sequence[Message], options: GenerationOptions
    ) -> None:
        """While the user reads, have the history prefilled as the next prompt will have it."""
        builder = answers.builders[0]
        end = builder.end
        if answers.count > 1 or builder.has_calls or end is None or end.reason != "stop":
            return
        task = asyncio.get_running_loop().create_task(
            asyncio.to_thread(
                answers.model.prepare_next_turn, messages, builder.reply().answer, options, end
            )
        )
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def several(request: Request, choices: int) -> list[Request]:
    """The same request so many times; with a seed, each draws with one of its own."""
    options, seed = request.options, request.options.sampling.seed
    if seed is None:
        return [request] * choices
    samplings = [
        replace(options.sampling, seed=(seed + choice) % (MAX_SEED + 1))
        for choice in range(choices)
    ]
    return [replace(request, options=replace(options, sampling=one)) for one in samplings]
