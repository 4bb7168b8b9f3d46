"""What is evaluated, before a model is open."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import mlx.core as mx
from rich.console import Console

from magistral_mlx.convert import DEMO, ConversionOptions, convert, default_output
from magistral_mlx.demo.expand import demo_source
from magistral_mlx.device import compute_dtype, dtype_name
from magistral_mlx.errors import CheckpointError
from magistral_mlx.evaluation.question import QuestionSet
from magistral_mlx.evaluation.run import EvaluationRun
from magistral_mlx.evaluation.run_folder import RunSettings
from magistral_mlx.kv.cache import kv_precision
from magistral_mlx.magistral import Magistral
from magistral_mlx.opening import Opening
from magistral_mlx.options import GenerationOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """Questions, model and options of a run, or of each point of a sweep.

    k: samples of each question. choice: as `choose_model` returns it. seed: the base of each
        sample's seed. kv_bits: of the KV cache; None: those that the model is opened with.
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

    @property
    def model_name(self) -> str:
        """The model's name for people."""
        return Path(self.choice).name

    @contextmanager
    def open_model(self, *, errors: Console, bits: int | None = None) -> Iterator[Magistral]:
        """Open the model, with weights of this many bits if they are given.

        Raises CheckpointError if there is no such conversion, and what `Opening.open` raises.
        """
        name = self.model_name if bits is None else f"{self.model_name} at {bits} bits"
        with errors.status(f"Opening {name}"):
            model = self.opening.open(str(model_at_bits(self.choice, bits)))
        with model:
            yield model

    def run(self, model: Magistral) -> EvaluationRun:
        """The run with an open model. Raises UserError for impossible options."""
        bits = self.kv_bits or self.opening.kv_bits or model.plan.kv_bits
        precision = kv_precision(bits, start=self.opening.kv_start)
        options = replace(
            self.options,
            kv_precision=precision,
            priority="batch",
            # There is no second turn to prepare in idle time.
            history="keep",
        )
        settings = RunSettings(
            questions=self.questions.name,
            model=model.name,
            fingerprint=model.checkpoint.fingerprint,
            device=mx.default_device().type.name,
            dtype=self.opening.dtype or dtype_name(compute_dtype(model.checkpoint.config.dtype)),
            window=model.window,
            kv_bits=precision.bits or 16,
            kv_start=precision.start,
            temperature=options.sampling.temperature,
            top_p=options.sampling.top_p,
            top_k=options.sampling.top_k,
            min_p=options.sampling.min_p,
            seed=self.seed,
            max_tokens=options.max_tokens,
            thinking_budget=options.thinking_budget,
            reasoning=options.reasoning,
        )
        return EvaluationRun(questions=self.questions, k=self.k, options=options, settings=settings)

    def digest(self, *words: str) -> str:
        """8 hex digits of these words and all options, except the counts."""
        parts = (
            self.questions.name,
            self.choice,
            repr(asdict(self.opening)),
            repr(self.options),
            str((self.seed, self.kv_bits)),
            *words,
        )
        return sha256("\0".join(parts).encode()).hexdigest()[:8]


def model_at_bits(choice: str, bits: int | None) -> str | Path:
    """The folder with weights of this many bits; None: the choice itself.

    The demo model is converted if necessary. Another model's conversions must be side by side,
    "…-3bit" and "…-4bit". Raises CheckpointError if there is none at these bits.
    """
    if bits is None:
        return choice
    if choice == DEMO:
        return _demo_at(bits)
    folder = Path(choice)
    base, _, last = folder.name.rpartition("-")
    other = folder.with_name(f"{base if last.endswith('bit') and base else folder.name}-{bits}bit")
    if not other.is_dir():
        raise CheckpointError(
            f"There is no {other.name} in {other.parent}: convert the source with --bits {bits}, "
            "or leave these bits out of the sweep."
        )
    return other


def _demo_at(bits: int) -> Path:
    if bits == 16:
        return demo_source()
    folder = default_output(DEMO, bits=bits)
    return folder if folder.is_dir() else convert(DEMO, folder, ConversionOptions(bits=bits))
