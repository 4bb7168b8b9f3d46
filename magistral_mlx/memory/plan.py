"""The memory plan: what fits on a machine, predicted from a checkpoint's shapes. All in bytes."""

from dataclasses import dataclass, replace

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization, choices
from magistral_mlx.errors import UserError
from magistral_mlx.machine import GIB, MAC_SIZES, MemoryLimit, mac_limit
from magistral_mlx.memory.byte_counts import kv_bytes_per_token
from magistral_mlx.memory.needs import Needs, Workload
from magistral_mlx.ranks.division import shard_config
from magistral_mlx.spec import WINDOW

WORTHY_SHARE = 0.75
"""KV is quantised further only for a window a third longer or more: it costs accuracy."""

LEAST_WINDOW = 2_048
"""A reasoning model needs at least this. A shorter window is used on request only."""


class MemoryPlanError(UserError):
    """The model or the requested window does not fit; the message names what would."""


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

    With several ranks, all of these are rank 0's; the others need less, having no head. If layers
    are divided (`plan_stages`), every rank has its own plan.

    layers: how many each rank has; empty if every rank has all of them.
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
    workload: Workload | None = None,
    *,
    ranks: int = 1,
) -> MemoryPlan:
    """Divide the limit between weights, KV cache, the largest step and what is left.

    Args:
        ranks: processes that the model's heads are divided between, each with this limit.

    Raises:
        MemoryPlanError: it does not fit, or KV of the requested precision is not possible.
        RequestError: the model cannot be divided between this number of ranks.
    """
    needs = Needs(shard_config(config, ranks), limit, workload or Workload(), ranks)
    choice = choose(needs)
    bits, window = choice.kv_bits, choice.window
    spare = limit.bytes - needs.total(bits, window)
    return MemoryPlan(
        limit=limit.bytes,
        limit_source=limit.source,
        weights=needs.weights,
        kv=needs.kv(bits, window),
        step=needs.step(bits, window),
        prefix_cache=spare // 2,
        headroom=spare - spare // 2,
        window=window,
        sequences=needs.workload.sequences,
        kv_bits=bits,
        kv_choices=kv_choices(needs, window),
        reasons=choice.reasons,
        ranks=ranks,
    )


def magistral_small(*, bits: int | None = 4) -> ModelConfig:
    """The shape of Magistral Small 2506 (model card) at `bits` a weight; None: bfloat16."""
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


@dataclass(frozen=True, slots=True)
class Choice:
    """The window, the precision of its KV, and the reason for each."""

    window: int
    kv_bits: int
    reasons: tuple[str, str]


def choose(needs: Needs) -> Choice:
    """Choose the window and the precision of KV, unless they are requested.

    Without a requested precision it is the finest that holds the requested window, or at least
    three quarters of the longest. Raises MemoryPlanError when nothing fits.
    """
    candidates = _kv_candidates(needs)
    window, bits, window_reason = _choose_window(needs, candidates)
    if needs.workload.kv_bits is not None:
        why = "as asked"
    elif bits == candidates[0]:
        why = "not quantised, because the window fits without"
    else:
        why = "more would shorten the window"
    return Choice(window, bits, (window_reason, f"KV at {bits} bits: {why}"))


def _kv_candidates(needs: Needs) -> tuple[int, ...]:
    asked = needs.workload.kv_bits
    if asked is None:
        return needs.kv_bits
    # 16 means "as computed" on the CPU too, which computes in 32.
    bits = needs.full_bits if asked in (16, 32) else asked
    if bits in needs.kv_bits:
        return (bits,)
    raise MemoryPlanError(
        f"A KV cache of {asked} bits is not possible with this model: choose "
        f"{choices(needs.kv_bits)}."
    )


def _choose_window(needs: Needs, candidates: tuple[int, ...]) -> tuple[int, int, str]:
    window = needs.workload.window
    if window is not None:
        return window, _finest(needs, window, candidates), f"window {window:,}: as asked"
    preferred = min(WINDOW, needs.config.max_position_embeddings)
    windows = {bits: min(preferred, needs.longest_window(bits)) for bits in candidates}
    bits = next(b for b in candidates if windows[b] >= WORTHY_SHARE * max(windows.values()))
    if windows[bits] < min(LEAST_WINDOW, preferred):
        raise _too_large(needs, candidates[-1], min(LEAST_WINDOW, preferred))
    if windows[bits] == preferred:
        card = "the model card's maximum" if preferred == WINDOW else "the checkpoint's maximum"
        return preferred, bits, f"window {preferred:,}: {card}, and it fits"
    reason = f"window {windows[bits]:,}: the longest that fits; {preferred:,} would take "
    return windows[bits], bits, reason + gigabytes(needs.total(bits, preferred))


def _finest(needs: Needs, window: int, candidates: tuple[int, ...]) -> int:
    """The finest precision that holds the requested window."""
    maximum = needs.config.max_position_embeddings
    if not 1 <= window <= maximum:
        raise MemoryPlanError(
            f"A window of {window:,} tokens is not possible: this checkpoint takes 1 to "
            f"{maximum:,}."
        )
    fitting = [bits for bits in candidates if needs.fits(bits, window)]
    if not fitting:
        raise _too_large(needs, candidates[-1], window)
    return fitting[0]


def kv_choices(needs: Needs, window: int) -> tuple[KVPlan, ...]:
    """Every possible precision, the finest first."""
    return tuple(
        KVPlan(
            bits=bits,
            bytes_per_token=kv_bytes_per_token(needs.config, needs.dtype, bits=bits),
            bytes_at_window=needs.kv(bits, window),
            longest_window=needs.longest_window(bits),
        )
        for bits in needs.kv_bits
    )


def _too_large(needs: Needs, bits: int, window: int) -> MemoryPlanError:
    """Names the needs, the limit, and everything that would fit instead."""
    parts = (
        f"weights {gigabytes(needs.weights)}, KV {gigabytes(needs.kv(bits, window))}, "
        f"step {gigabytes(needs.step(bits, window))}"
    )
    sequences = needs.workload.sequences
    many = f" for {sequences} sequences" if sequences > 1 else ""
    return MemoryPlanError(
        f"A window of {window:,} tokens{many} takes {gigabytes(needs.total(bits, window))} "
        f"({parts}) and the limit is {gigabytes(needs.limit.bytes)}, {needs.limit.source}. "
        f"What would fit: {'; '.join(_alternatives(needs, bits, window))}."
    )


def _alternatives(needs: Needs, bits: int, window: int) -> list[str]:
    found: list[str] = []
    if longest := needs.longest_window(bits):
        found.append(f"a window of {longest:,}")
    one = replace(needs, workload=replace(needs.workload, sequences=1))
    if needs.workload.sequences > 1 and one.fits(bits, window):
        found.append("one sequence at a time")
    quantization = needs.config.quantization
    stored = quantization.bits if quantization else 16
    group = quantization.group_size if quantization and quantization.has_biases else 64
    for fewer in (8, 6, 5, 4, 3):
        converted = replace(
            needs.config, quantization=Quantization(fewer, group), module_quantization=()
        )
        if fewer < stored and replace(needs, config=converted).fits(bits, window):
            found.append(f"the model converted to {fewer} bits")
            break
    for memory in MAC_SIZES:
        if needs.on(mac_limit(memory)).fits(bits, window):
            macs = f"{needs.ranks} Macs" if needs.ranks > 1 else "a Mac"
            found.append(f"{macs} with {memory // GIB} GB")
            break
    return found or ["a smaller model"]


def gigabytes(count: int) -> str:
    """Decimal gigabytes as the model card writes them, megabytes below 0.1 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
