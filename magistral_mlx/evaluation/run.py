"""A run: the missing samples are drawn, several at once, graded, and stored."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from magistral_mlx.errors import UserError
from magistral_mlx.evaluation.grading import grade
from magistral_mlx.evaluation.question import Question, QuestionSet
from magistral_mlx.evaluation.run_folder import RunFolder, RunSettings
from magistral_mlx.evaluation.sample import Sample, sample_seed
from magistral_mlx.magistral import Magistral
from magistral_mlx.options import GenerationOptions
from magistral_mlx.reply import Reply, collect_reply

AT_ONCE = 12
"""Requests in the engine: eight run together, and four are ready to take their places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRun:
    """The questions, the number of samples of each (k), and how to draw them.

    settings: what the samples depend on; options tell the engine the same.
    """

    questions: QuestionSet
    k: int
    options: GenerationOptions
    settings: RunSettings

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UserError(f"There cannot be {self.k} samples of a question: give -k 1 or more.")
        if self.k > 1 and self.options.sampling.temperature == 0:
            raise UserError(
                f"At temperature 0 all {self.k} samples of a question are equal: give -k 1 or a "
                "higher --temperature."
            )

    def carry_out(
        self,
        model: Magistral,
        folder: Path,
        *,
        on_samples: Callable[[list[Sample]], None],
    ) -> None:
        """Draw the samples that the folder lacks, the first sample of every question first.

        on_samples gets all samples at the start, and again after each new one. An interruption,
        also by Ctrl-C, loses only unfinished samples.

        Raises UserError for a question that is refused or a folder that cannot be used, and
        EngineError if the engine fails.
        """
        with RunFolder(folder, self.settings) as kept:
            on_samples(kept.samples)
            done = {sample.key for sample in kept.samples}
            missing = [
                (question, index)
                for index in range(self.k)
                for question in self.questions.questions
                if (question.digest, index) not in done
            ]
            with closing(draw_samples(model, missing, self.options, self.settings.seed)) as drawn:
                for sample in drawn:
                    kept.append(sample)
                    on_samples(kept.samples)


def draw_samples(
    model: Magistral,
    tasks: Iterable[tuple[Question, int]],
    options: GenerationOptions,
    seed: int,
    *,
    at_once: int = AT_ONCE,
) -> Generator[Sample]:
    """Draw and grade samples, in the order in which they finish. Closing cancels the others.

    tasks: a question, and the index of its sample. options: for each sample, except for the seed
        (`sample_seed`).

    Raises RequestError for a question that is refused and EngineError if the engine fails.
    """
    waiting = iter(tasks)
    running: dict[Future[Reply], _Request] = {}

    def start(count: int) -> None:
        for question, index in islice(waiting, count):
            own_seed = sample_seed(question, index, seed=seed)
            sampling = replace(options.sampling, seed=own_seed)
            stream = model.stream(question.text, replace(options, sampling=sampling))
            request = _Request(question, index, own_seed, stream.cancel)
            running[readers.submit(collect_reply, stream)] = request

    with ThreadPoolExecutor(at_once) as readers:
        try:
            start(at_once)
            while running:
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    request, reply = running.pop(future), future.result()
                    start(1)
                    yield request.sample(reply)
        finally:
            for request in running.values():
                request.cancel()


@dataclass(frozen=True, slots=True)
class _Request:
    """A sample of a question that the engine is drawing."""

    question: Question
    index: int
    seed: int
    cancel: Callable[[], None]

    def sample(self, reply: Reply) -> Sample:
        graded = grade(self.question, reply.answer)
        return Sample(
            question=self.question.id,
            digest=self.question.digest,
            index=self.index,
            seed=self.seed,
            extracted=graded.extracted,
            right=graded.right,
            finish_reason=reply.finish_reason,
            closed_by_force=reply.reasoning_closed_by_force,
            prompt_tokens=reply.usage.prompt_tokens,
            completion_tokens=reply.usage.completion_tokens,
            reasoning_tokens=reply.usage.reasoning_tokens,
            seconds=round(reply.timings.total_seconds, 3),
            reasoning=reply.reasoning,
            answer=reply.answer,
        )
