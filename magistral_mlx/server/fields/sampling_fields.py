"""Fields of requests that say how tokens are drawn, the same on all routes of OpenAI's form."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from magistral_mlx.errors import RequestError
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.server.fields.strict_model import StrictModel
from magistral_mlx.spec import TEMPERATURE, TOP_P

NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Stop = NonEmpty | Annotated[list[NonEmpty], Field(max_length=16)]


class SamplingFields(StrictModel):
    """What vLLM and OpenAI call so; null and leaving out mean the model card's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stop: Stop | None = None
    min_tokens: int | None = Field(None, ge=0)
    ignore_eos: bool = False
    priority: Literal["interactive", "batch"] = "interactive"
    """Batch requests wait for those that somebody is waiting for."""

    def sampling(self) -> SamplingParams:
        """As the engine takes it. Raises RequestError for values out of range."""
        return SamplingParams(
            temperature=_given(self.temperature, TEMPERATURE),
            top_p=_given(self.top_p, TOP_P),
            top_k=0 if self.top_k is None else max(0, self.top_k),  # -1 is vLLM's "off"
            min_p=_given(self.min_p, 0.0),
            seed=self.seed,
            presence_penalty=_given(self.presence_penalty, 0.0),
            frequency_penalty=_given(self.frequency_penalty, 0.0),
            repetition_penalty=_given(self.repetition_penalty, 1.0),
            logit_bias={_token(key): bias for key, bias in (self.logit_bias or {}).items()},
        )

    def options(self) -> GenerationOptions:
        """Options with what these fields say. Raises RequestError for values out of range."""
        return GenerationOptions(
            sampling=self.sampling(),
            stop=stop_strings(self.stop),
            min_tokens=self.min_tokens or 0,
            ignore_eos=self.ignore_eos,
            priority=self.priority,
        )


def stop_strings(stop: Stop | None) -> tuple[str, ...]:
    """One stop string, several, or none."""
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _token(key: str) -> int:
    if not key.isascii() or not key.isdigit() or len(key) > 9:
        raise RequestError(
            f"logit_bias of {key!r}: the keys are token ids, as in /tokenize.", field="logit_bias"
        )
    return int(key)
