"""Fields that say how tokens are drawn and how long the model reasons."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from magistral_mlx.errors import RequestError
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.server.fields.strict_model import Entries, Items, StrictModel
from magistral_mlx.spec import TEMPERATURE, TOP_P
from magistral_mlx.text.conversation import Reasoning

NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Stop = NonEmpty | Annotated[Items[NonEmpty], Field(max_length=16)]

Effort = Literal["none", "minimal", "low", "medium", "high"]

BUDGETS: dict[Effort, int | None] = {
    "none": None,
    "minimal": 256,
    "low": 1_024,
    "medium": 4_096,
    "high": None,
}
"""Maximum number of reasoning tokens; None: what the window holds."""


class SamplingFields(StrictModel):
    """Fields as OpenAI and vLLM name them; null means the model card's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Entries[float] | None = None
    stop: Stop | None = None
    min_tokens: int | None = Field(None, ge=0)
    ignore_eos: bool = False
    priority: Literal["interactive", "batch"] = "interactive"
    """Batch requests run after the interactive ones."""

    def options(self) -> GenerationOptions:
        """Options as these fields say. Raises RequestError for values out of range."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return GenerationOptions(
            sampling=self._sampling(),
            stop=stop,
            min_tokens=self.min_tokens or 0,
            ignore_eos=self.ignore_eos,
            priority=self.priority,
        )

    def _sampling(self) -> SamplingParams:
        return SamplingParams(
            temperature=given(self.temperature, TEMPERATURE),
            top_p=given(self.top_p, TOP_P),
            top_k=max(0, self.top_k or 0),  # -1 is vLLM's "off"
            min_p=given(self.min_p, 0.0),
            seed=self.seed,
            presence_penalty=given(self.presence_penalty, 0.0),
            frequency_penalty=given(self.frequency_penalty, 0.0),
            repetition_penalty=given(self.repetition_penalty, 1.0),
            logit_bias={_token(key): bias for key, bias in (self.logit_bias or {}).items()},
        )


def given(value: float | None, default: float) -> float:
    """The value, or the default for null."""
    return default if value is None else value


def reasoning_mode(effort: Effort | None) -> Reasoning:
    """Whether to reason at all."""
    return "off" if effort == "none" else "auto"


def budget(effort: Effort | None) -> int | None:
    """Maximum number of reasoning tokens; None: what the window holds."""
    return None if effort is None else BUDGETS[effort]


def _token(key: str) -> int:
    if not key.isascii() or not key.isdigit() or len(key) > 9:
        raise RequestError(
            f"logit_bias of {key!r}: the keys are token ids, as in /tokenize.", field="logit_bias"
        )
    return int(key)
