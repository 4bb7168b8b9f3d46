"""Step times by number of tokens, measured once per checkpoint and machine."""

import json
import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

from magistral_mlx.device import dtype_name
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.model.token_axis import Segment

TRIES = 3
LONG = 0.3
"""Each size is timed TRIES times and the fastest time counts, because noise only makes a step
slower. A step that takes LONG seconds is timed once: noise is a small part of it."""

LEAST_CHUNK = 4
"""Prompt tokens that a step takes even if they more than double it: a prompt must advance."""

ATTENDING = 64
ATTENDED = 2_048
"""Attention is measured with ATTENDING tokens after ATTENDED others."""


@dataclass(frozen=True, slots=True)
class StepCosts:
    """How long steps take.

    tokens, seconds: times of steps at the beginning of a sequence, by number of tokens. Tokens
        rise, and seconds never fall.
    attention: seconds per token and position before it.
    """

    tokens: tuple[int, ...]
    seconds: tuple[float, ...]
    attention: float = 0.0

    def of(self, tokens: int) -> float:
        """Seconds of a step, interpolated between measured ones or extrapolated beyond."""
        sizes, times = self.tokens, self.seconds
        upper = next((i for i, size in enumerate(sizes) if size >= tokens), len(sizes) - 1)
        if upper == 0:
            return times[0]
        part = (tokens - sizes[upper - 1]) / (sizes[upper] - sizes[upper - 1])
        return times[upper - 1] + part * (times[upper] - times[upper - 1])

    def chunk(self, decoding: Sequence[int], *, behind: int, most: int) -> int:
        """Prompt tokens to add to a step with decoding sequences so that it at most doubles.

        Args:
            decoding: the length of every decoding sequence.
            behind: tokens of the prompt that have been prefilled.
            most: the upper bound; it is returned if nothing decodes.

        Returns:
            At least LEAST_CHUNK, or `most` if that is less.
        """
        if not decoding or most <= LEAST_CHUNK:
            return most
        attended = self.attention * sum(decoding)
        bound = 2 * (self.of(len(decoding)) + attended)

        def cost(tokens: int) -> float:
            positions = tokens * (behind + tokens / 2)
            return self.of(len(decoding) + tokens) + attended + self.attention * positions

        low, high = LEAST_CHUNK, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if cost(middle) <= bound else (low, middle - 1)
        return low


def known_step_costs(
    decoder: Decoder, *, fingerprint: str, largest: int, folder: Path, ranks: int = 1
) -> StepCosts:
    """The costs stored in `folder`, or measured now and stored there.

    ranks: number of processes that share the model.
    """
    key = _key(fingerprint, decoder, largest)
    if ranks > 1:
        key += f"-{ranks}-ranks-{decoder.config.num_hidden_layers}-layers"
    path = folder / f"step-costs-{key}.json"
    found = _read(path)
    if found is None:
        found = measure_step_costs(decoder, largest=largest)
        _write(path, found)
    return found


def measure_step_costs(decoder: Decoder, *, largest: int) -> StepCosts:
    """Time steps of 1, 2, 4 … `largest` tokens on an empty cache, and one after many tokens."""
    sizes = [1 << i for i in range(largest.bit_length()) if 1 << i < largest] + [largest]
    times = [_fastest_step(decoder, size) for size in sizes]
    rising = [max(times[: i + 1]) for i in range(len(times))]
    return StepCosts(tuple(sizes), tuple(rising), _attention(decoder))


def _attention(decoder: Decoder) -> float:
    longer = _fastest_step(decoder, ATTENDING, behind=ATTENDED)
    more = longer - _fastest_step(decoder, ATTENDING)
    return max(0.0, more / (ATTENDING * ATTENDED))


def _fastest_step(decoder: Decoder, tokens: int, *, behind: int = 0) -> float:
    fastest = _timed_step(decoder, tokens, behind)
    for _ in range(TRIES - 1):
        if fastest < LONG:
            fastest = min(fastest, _timed_step(decoder, tokens, behind))
    return fastest


def _timed_step(decoder: Decoder, tokens: int, behind: int) -> float:
    cache = decoder.make_filled_cache(behind)
    start = time.perf_counter()
    logits = decoder(mx.zeros((tokens,), dtype=mx.int32), [Segment(cache, tokens, 1)])
    mx.eval(logits)
    return time.perf_counter() - start


def _key(fingerprint: str, decoder: Decoder, largest: int) -> str:
    """Names the weights, compute type, device and MLX version, which all change the costs."""
    device = str(mx.device_info().get("device_name", platform.processor() or platform.machine()))
    name = "".join(c if c.isalnum() else "_" for c in device)
    dtype = dtype_name(decoder.model.norm.weight.dtype)
    return f"{fingerprint[:16]}-{dtype}-{name}-mlx{version('mlx')}-{largest}"


def _read(path: Path) -> StepCosts | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        attention = float(content["attention"])
        costs = StepCosts(tuple(content["tokens"]), tuple(content["seconds"]), attention)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # missing or incomplete: measure again
    sound = _is_sound(costs.tokens) and _is_sound(costs.seconds) and attention >= 0
    return costs if sound else None


def _is_sound(values: Sequence[float]) -> bool:
    numbers = all(isinstance(value, int | float) and value > 0 for value in values)
    return len(values) > 1 and numbers and list(values) == sorted(values)


def _write(path: Path, costs: StepCosts) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(costs)), encoding="utf-8")
        partial.replace(path)
    except OSError:
        with suppress(OSError):  # it is measured again next time, in a second or two
            partial.unlink()
