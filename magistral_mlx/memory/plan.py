"""The plan: what fits on a machine, predicted from a checkpoint's shapes. All figures are bytes."""

from dataclasses import dataclass, replace

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.errors import UserError
from magistral_mlx.machine import GIB, MAC_SIZES, MemoryLimit, mac_limit
from magistral_mlx.memory.needs import Budget
from magistral_mlx.memory.byte_counts import kv_bytes_per_token
from magistral_mlx.ranks.shard_config import shard_config
from magistral_mlx.spec import WINDOW

WORTHY_SHARE = 0.75
"""KV is not quantised further for a window that is less than a third longer: it costs accuracy."""

PREFILL_TOKENS = 512
"""Most prompt tokens in one step."""

LEAST_WINDOW = 2_048
"""A reasoning model is of no use in less, so less is never chosen. It can be asked for."""


class MemoryPlanError(UserError):
    """The model, or the window asked for, does not fit; the message says what would."""


@dataclass(frozen=True, slots=True)
class KVPlan:
    """The KV cache at one precision.

    bits: of one value; 16 or 32 is the compute type itself, fewer are quantised.
    bytes_at_window: for all sequences, at the window of the plan.
    longest_window: tokens that fit beside weights and step, up to the checkpoint's maximum.
    """

    bits: int
    bytes_per_token: int
    bytes_at_window: int
    longest_window: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where the bytes go: weights + kv + step + prefix_cache + headroom == limit.

    With several ranks, all of these are rank 0's; the others need the head's bytes less. Where
    layers are divided (`plan_stages`), every rank has a plan of its own.

    layers: of each rank; empty where every rank has all.
    """

    limit: int
    limit_source: str
    weights: int
    kv: int
    step: int
    prefix_cache: int
    headroom: int
    window: int
    sequences: int
    kv_bits: int
    kv_choices: tuple[KVPlan, ...]
    reasons: tuple[str, ...]
    ranks: int = 1
    layers: tuple[int, ...] = ()


def plan(
    config: ModelConfig,
    limit: MemoryLimit,
    *,
    dtype: str | None = None,
    window: int | None = None,
    kv_bits: int | None = None,
    sequences: int = 1,
    chunk: int = PREFILL_TOKENS,
    on_gpu: bool = True,
    ranks: int = 1,
) -> MemoryPlan:
    """Divide the limit between weights, KV cache, the largest step and what is left.

    Args:
        dtype: what the model computes in; by default the checkpoint's own type.
        window: tokens a sequence may hold; by default the most that fits, up to the card's.
        kv_bits: precision of the KV cache; by default the finest that holds the window asked for,
            or at least three quarters of what the coarsest holds.
        sequences: how many run at once, each with a full window.
        chunk: most prompt tokens in a step.
        on_gpu: as on Metal and CUDA; MLX's CPU backend stores blocks of scores.
        ranks: processes that the model is divided between, each with a limit of its own.

    Raises:
        MemoryPlanError: it does not fit, or a KV cache of those bits is not possible.
        RequestError: the model cannot be divided between so many ranks.
    """
    part = shard_config(config, ranks)
    budget = Budget(part, limit, dtype or config.dtype, sequences, chunk, on_gpu, ranks)
    candidates = budget.kv_bits if kv_bits is None else asked_kv_bits(kv_bits, budget)
    chosen, bits, window_reason = choose_window(budget, window, candidates)
    kv, step = budget.kv(bits, chosen), budget.step(bits, chosen)
    spare = limit.bytes - budget.weights - kv - step
    return MemoryPlan(
        limit=limit.bytes,
        limit_source=limit.source,
        weights=budget.weights,
        kv=kv,
        step=step,
        prefix_cache=spare // 2,
        headroom=spare - spare // 2,
        window=chosen,
        sequences=sequences,
        kv_bits=bits,
        kv_choices=kv_choices(budget, chosen),
        reasons=(window_reason, kv_reason(bits, candidates, asked=kv_bits is not None)),
        ranks=ranks,
    )


def magistral_small(*, bits: int | None = 4) -> ModelConfig:
    """The shape of Magistral Small 2506 (model card) at so many bits a weight; None: bfloat16."""
    return ModelConfig(
        vocab_size=131_072,
        hidden_size=5_120,
        intermediate_size=32_768,
        num_hidden_layers=40,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        rms_norm_eps=1e-5,
        rope_theta=1e9,
        max_position_embeddings=131_072,
        tie_word_embeddings=False,
        dtype="bfloat16",
        quantization=None if bits is None else Quantization(bits=bits, group_size=64),
    )


def asked_kv_bits(kv_bits: int, budget: Budget) -> tuple[int, ...]:
    """The precision asked for, alone. Raises MemoryPlanError when it is not possible."""
    # 16 means "as computed" on the CPU too, which computes in 32.
    bits = budget.full_bits if kv_bits in (16, 32) else kv_bits
    if bits in budget.kv_bits:
        return (bits,)
    raise MemoryPlanError(
        f"A KV cache of {kv_bits} bits is not possible with this model: choose "
        f"{' or '.join(map(str, budget.kv_bits))}."
    )


def choose_window(
    budget: Budget, window: int | None, candidates: tuple[int, ...]
) -> tuple[int, int, str]:
    """The window, the precision of its KV, and the reason for the window.

    Raises MemoryPlanError when it does not fit.
    """
    if window is not None:
        return window, _finest(budget, window, candidates), f"window {window:,}: as asked"
    preferred = min(WINDOW, budget.config.max_position_embeddings)
    windows = {bits: min(preferred, budget.longest_window(bits)) for bits in candidates}
    bits = next(b for b in candidates if windows[b] >= WORTHY_SHARE * max(windows.values()))
    if windows[bits] < min(LEAST_WINDOW, preferred):
        raise _too_large(budget, candidates[-1], min(LEAST_WINDOW, preferred))
    if windows[bits] == preferred:
        card = "the model card's maximum" if preferred == WINDOW else "the checkpoint's maximum"
        return preferred, bits, f"window {preferred:,}: {card}, and it fits"
    reason = f"window {windows[bits]:,}: the longest that fits; {preferred:,} would take "
    return windows[bits], bits, reason + gigabytes(budget.total(bits, preferred))


def _finest(budget: Budget, window: int, candidates: tuple[int, ...]) -> int:
    """The finest precision that holds a window that was asked for."""
    maximum = budget.config.max_position_embeddings
    if not 1 <= window <= maximum:
        raise MemoryPlanError(
            f"A window of {window:,} tokens is not possible: this checkpoint takes 1 to "
            f"{maximum:,}."
        )
    fitting = [bits for bits in candidates if budget.fits(bits, window)]
    if not fitting:
        raise _too_large(budget, candidates[-1], window)
    return fitting[0]


def kv_reason(bits: int, candidates: tuple[int, ...], *, asked: bool) -> str:
    """Why the KV has the precision chosen."""
    if asked:
        return f"KV at {bits} bits: as asked"
    if bits == candidates[0]:
        return f"KV at {bits} bits: not quantised, because the window fits without"
    return f"KV at {bits} bits: more would shorten the window"


def kv_choices(budget: Budget, window: int) -> tuple[KVPlan, ...]:
    """Every precision that is possible."""
    return tuple(
        KVPlan(
            bits=bits,
            bytes_per_token=kv_bytes_per_token(budget.config, budget.dtype, bits=bits),
            bytes_at_window=budget.kv(bits, window),
            longest_window=budget.longest_window(bits),
        )
        for bits in budget.kv_bits
    )


def _too_large(budget: Budget, bits: int, window: int) -> MemoryPlanError:
    """What was asked, the limit it hits, and everything that would fit instead."""
    parts = (
        f"weights {gigabytes(budget.weights)}, KV {gigabytes(budget.kv(bits, window))}, "
        f"step {gigabytes(budget.step(bits, window))}"
    )
    many = f" for {budget.sequences} sequences" if budget.sequences > 1 else ""
    return MemoryPlanError(
        f"A window of {window:,} tokens{many} takes {gigabytes(budget.total(bits, window))} "
        f"({parts}) and the limit is {gigabytes(budget.limit.bytes)}, {budget.limit.source}. "
        f"What would fit: {'; '.join(_alternatives(budget, bits, window))}."
    )


def _alternatives(budget: Budget, bits: int, window: int) -> list[str]:
    found: list[str] = []
    if longest := budget.longest_window(bits):
        found.append(f"a window of {longest:,}")
    if budget.sequences > 1 and replace(budget, sequences=1).fits(bits, window):
        found.append("one sequence at a time")
    quantization = budget.config.quantization
    for fewer in (8, 6, 5, 4, 3):
        stored = quantization.bits if quantization else 16
        affine = quantization is not None and quantization.mode == "affine"
        group = quantization.group_size if quantization and affine else 64
        converted = replace(
            budget.config, quantization=Quantization(fewer, group), module_quantization=()
        )
        if fewer < stored and replace(budget, config=converted).fits(bits, window):
            found.append(f"the model converted to {fewer} bits")
            break
    for memory in MAC_SIZES:
        if budget.on(mac_limit(memory)).fits(bits, window):
            macs = f"{budget.ranks} Macs" if budget.ranks > 1 else "a Mac"
            found.append(f"{macs} with {memory // GIB} GB")
            break
    return found or ["a smaller model"]


def gigabytes(count: int) -> str:
    """Decimal gigabytes as the model card writes them, megabytes below 0.1 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
