"""What the user asks for, before a model is open."""

from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from magistral_mlx.api import Magistral
from magistral_mlx.evaluation.question import QuestionSet
from magistral_mlx.evaluation.run import Run
from magistral_mlx.evaluation.run_settings import run_settings
from magistral_mlx.kv.cache import kv_precision
from magistral_mlx.opening import Opening
from magistral_mlx.options import GenerationOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Questions, model and options of a run, or of every point of a sweep.

    choice: what `choose_model` chose; seed: of which every sample's own is made.
    kv_bits, budget: None for what the plan chooses, and for no budget.
    command: the words of the command line, for the report.
    """

    command: list[str]
    questions: QuestionSet
    k: int
    choice: str
    opening: Opening
    options: GenerationOptions
    seed: int
    kv_bits: int | None = None
    budget: int | None = None

    @property
    def model_name(self) -> str:
        """For people."""
        return Path(self.choice).name

    def run(self, model: Magistral) -> Run:
        """The run with an open model. Raises UserError for options that are not possible."""
        bits = self.kv_bits if self.kv_bits is not None else model.plan.kv_bits
        options = replace(
            self.options,
            kv_precision=kv_precision(bits, start=self.opening.kv_start),
            thinking_budget=self.budget,
            priority="batch",
            # No idle work is to prepare a second turn.
            history="keep",
        )
        settings = run_settings(
            model,
            options,
            questions=self.questions.name,
            seed=self.seed,
            dtype=self.opening.dtype,
        )
        return Run(questions=self.questions, k=self.k, options=options, settings=settings)

    def digest(self, *words: str) -> str:
        """8 hex digits that change with these words and with any option but the counts."""
        parts = (
            self.questions.name,
            self.choice,
            repr(asdict(self.opening)),
            repr(self.options),
            str((self.seed, self.kv_bits, self.budget)),
            *words,
        )
        return sha256("\0".join(parts).encode()).hexdigest()[:8]
