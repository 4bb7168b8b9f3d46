"""The memory bandwidth of Macs that one does not own, and what to expect of them."""

import json
from dataclasses import dataclass
from importlib import resources

from magistral_mlx.bench.bound import decode_bound
from magistral_mlx.bench.cases import Case
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.errors import RequestError


@dataclass(frozen=True, slots=True)
class Chip:
    """bandwidth: bytes a second, as published."""

    name: str
    bandwidth: float


def published_chips() -> list[Chip]:
    """All that chips.json has."""
    text = (resources.files("magistral_mlx.bench") / "chips.json").read_text(encoding="utf-8")
    return [Chip(row["name"], row["bandwidth"] * 1e9) for row in json.loads(text)["chips"]]


def choose_chips(words: str) -> list[Chip]:
    """Chips whose name begins so ("M4" means M4, M4 Pro and M4 Max), "all" or "none".

    Raises RequestError for one that is not known.
    """
    chips = published_chips()
    wanted = words.strip().casefold()
    if wanted in ("all", "none"):
        return chips if wanted == "all" else []
    found = [chip for chip in chips if chip.name.casefold().startswith(wanted)]
    if not found:
        names = ", ".join(chip.name for chip in chips)
        raise RequestError(f"There is no chip {words!r} among those known: {names}.")
    return found


def predict(config: ModelConfig, case: Case, chip: Chip, *, reached: float) -> float:
    """Tokens a second on that chip, if it reaches the same part of its bound. Not a measurement.

    A GPU computes in 16 bits, whatever computed here.
    """
    return reached * decode_bound(config, "bfloat16", case, bandwidth=chip.bandwidth)
