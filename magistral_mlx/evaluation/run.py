"""One run: the samples that are missing are drawn, graded and kept."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from magistral_mlx.api import Magistral
from magistral_mlx.errors import UserError
from magistral_mlx.evaluation.generation import AT_ONCE, Output, Task, generate_outputs
from magistral_mlx.evaluation.grading import grade
from magistral_mlx.evaluation.question import QuestionSet
from magistral_mlx.evaluation.run_folder import RunFolder
from magistral_mlx.evaluation.run_settings import RunSettings
from magistral_mlx.evaluation.sample import Sample
from magistral_mlx.options import GenerationOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is asked, how often (k samples of each question), and how.

    settings: what the samples hang on; options say the same to the engine.
    """

    questions: QuestionSet
    k: int
    options: GenerationOptions
    settings: RunSettings

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UserError(f"There cannot be {self.k} samples of a question: ask for 1 or more.")
        if self.k > 1 and self.options.sampling.temperature == 0:
            raise UserError(
                f"At temperature 0 all {self.k} samples of a question are the same: ask for 1, or "
                "raise the temperature."
            )

    def carry_out(
        self,
        model: Magistral,
        folder: Path,
        *,
        on_samples: Callable[[list[Sample]], None],
        at_once: int = AT_ONCE,
    ) -> None:
        """Draw what the folder does not hold yet, the first sample of every question first.

        on_samples gets all samples at the beginning, and again after each that is kept. Whatever
        ends this, Ctrl-C too, loses the samples that are not finished, and no others.

        Raises UserError for what cannot be asked or kept, and EngineError when the engine fails.
        """
        with RunFolder(folder, self.settings) as kept:
            on_samples(kept.samples)
            outputs = generate_outputs(
                model, self._missing(kept), self.options, seed=self.settings.seed, at_once=at_once
            )
            with closing(outputs):
                for output in outputs:
                    kept.append(_sample(output))
                    on_samples(kept.samples)

    def _missing(self, kept: RunFolder) -> list[Task]:
        there = {sample.key for sample in kept.samples}
        tasks = [Task(q, index) for index in range(self.k) for q in self.questions.questions]
        return [task for task in tasks if task.key not in there]


def _sample(output: Output) -> Sample:
    graded = grade(output.task.question, output.answer)
    usage = output.end.usage
    return Sample(
        question=output.task.question.id,
        digest=output.task.question.digest,
        index=output.task.index,
        seed=output.seed,
        extracted=graded.extracted,
        right=graded.right,
        finish_reason=output.end.reason,
        closed_by_force=output.end.reasoning_closed_by_force,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        seconds=round(output.end.timings.total_seconds, 3),
        reasoning=output.reasoning,
        answer=output.answer,
    )
