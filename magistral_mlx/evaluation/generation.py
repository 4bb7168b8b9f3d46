"""Draw samples from an open model, several at once, and give each as soon as it is finished."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from queue import SimpleQueue
from threading import Thread

from magistral_mlx.api import Magistral
from magistral_mlx.errors import EngineError
from magistral_mlx.evaluation.question import Question
from magistral_mlx.evaluation.sample import sample_seed
from magistral_mlx.events import AnswerText, Failed, Finished, ReasoningText
from magistral_mlx.options import GenerationOptions

AT_ONCE = 12
"""Requests in the engine: eight run together, and the next ones are ready to take their places."""


@dataclass(frozen=True, slots=True)
class Task:
    """A question, and which of its samples to draw."""

    question: Question
    index: int

    @property
    def key(self) -> tuple[str, int]:
        """As of a sample."""
        return self.question.digest, self.index


@dataclass(frozen=True, slots=True)
class Output:
    """What came of a task."""

    task: Task
    seed: int
    reasoning: str
    answer: str
    end: Finished


def generate_outputs(
    model: Magistral,
    tasks: Iterable[Task],
    options: GenerationOptions,
    *,
    seed: int,
    at_once: int = AT_ONCE,
) -> Generator[Output]:
    """Outputs in the order in which they finish. Closing the iterator cancels those that run.

    options: of every sample, but for the seed: each has its own (sample_seed).

    Raises RequestError for a question that is refused and EngineError when the engine fails.
    """
    waiting = iter(tasks)
    ended: SimpleQueue[_Running] = SimpleQueue()
    running: set[_Running] = set()

    def start(count: int) -> None:
        for task in islice(waiting, count):
            running.add(_Running(model, task, options, seed=seed, ended=ended))

    try:
        start(at_once)
        while running:
            one = ended.get()
            running.remove(one)
            output = one.output()
            start(1)
            yield output
    finally:
        for one in running:
            one.stream.cancel()
        for one in running:
            one.thread.join()


class _Running:
    """One request, and the thread that reads its events."""

    def __init__(
        self,
        model: Magistral,
        task: Task,
        options: GenerationOptions,
        *,
        seed: int,
        ended: "SimpleQueue[_Running]",
    ) -> None:
        self.task = task
        self.seed = sample_seed(task.question, task.index, seed=seed)
        sampling = replace(options.sampling, seed=self.seed)
        self.stream = model.stream(task.question.text, replace(options, sampling=sampling))
        self._reasoning: list[str] = []
        self._answer: list[str] = []
        self._end: Finished | Failed | None = None
        self.thread = Thread(target=self._read, args=(ended,), daemon=True)
        self.thread.start()

    def output(self) -> Output:
        """What came of it, once it has ended. Raises EngineError when the engine failed."""
        if not isinstance(self._end, Finished):
            raise EngineError(self._end.message if self._end else "An answer had no end.")
        return Output(
            self.task, self.seed, "".join(self._reasoning), "".join(self._answer), self._end
        )

    def _read(self, ended: "SimpleQueue[_Running]") -> None:
        try:
            for event in self.stream:
                if isinstance(event, ReasoningText):
                    self._reasoning.append(event.text)
                elif isinstance(event, AnswerText):
                    self._answer.append(event.text)
                elif isinstance(event, Finished | Failed):
                    self._end = event
        finally:
            ended.put(self)
