"""Everything that an answer depends on, beside the question and the number of the sample."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256

import mlx.core as mx

from magistral_mlx.api import Magistral
from magistral_mlx.device import compute_dtype, dtype_name
from magistral_mlx.kv.cache import kv_precision
from magistral_mlx.options import GenerationOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """A run goes on only where all of these are as they were.

    fingerprint: of the model's files; device: what MLX computes on; kv_bits: of the KV cache.
    """

    questions: str
    model: str
    fingerprint: str
    device: str
    dtype: str
    window: int
    kv_bits: int
    kv_start: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    max_tokens: int | None
    thinking_budget: int | None
    reasoning: str

    @property
    def digest(self) -> str:
        """8 hex digits, for a folder's name."""
        return sha256(json.dumps(asdict(self)).encode()).hexdigest()[:8]


def run_settings(
    model: Magistral,
    options: GenerationOptions,
    *,
    questions: str,
    seed: int,
    dtype: str | None = None,
) -> RunSettings:
    """The settings of a run with this open model.

    Without a KV precision it is the plan's, without a dtype what the engine computes in then.
    """
    precision = options.kv_precision or kv_precision(model.plan.kv_bits)
    return RunSettings(
        questions=questions,
        model=model.name,
        fingerprint=model.checkpoint.fingerprint,
        device=mx.default_device().type.name,
        dtype=dtype or dtype_name(compute_dtype(model.checkpoint.config.dtype)),
        window=model.window,
        kv_bits=precision.bits or 16,
        kv_start=precision.start,
        temperature=options.sampling.temperature,
        top_p=options.sampling.top_p,
        top_k=options.sampling.top_k,
        min_p=options.sampling.min_p,
        seed=seed,
        max_tokens=options.max_tokens,
        thinking_budget=options.thinking_budget,
        reasoning=options.reasoning,
    )
