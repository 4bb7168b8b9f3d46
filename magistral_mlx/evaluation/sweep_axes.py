"""The axes of a sweep: bits=3,4,8 kv=16,8,4 budget=256,1024,none."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from magistral_mlx.errors import UserError

AXES = ("bits", "kv", "budget")
_ALLOWED = {"bits": (2, 3, 4, 5, 6, 8, 16), "kv": (16, 8, 4)}


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One combination of a sweep; None: not swept.

    bits: of the weights; kv: of the KV cache; budget: the thinking budget in tokens, or "none".
    """

    bits: int | None = None
    kv: int | None = None
    budget: int | Literal["none"] | None = None

    @property
    def name(self) -> str:
        """The name of the point's folder."""
        parts = (("weights", self.bits), ("kv", self.kv), ("budget", self.budget))
        return "-".join(f"{name}{value}" for name, value in parts if value is not None) or "plain"


@dataclass(frozen=True, slots=True)
class SweepAxes:
    """The values of each axis; order: the swept axes, as the user ordered them."""

    order: tuple[str, ...]
    bits: tuple[int, ...]
    kv: tuple[int, ...]
    budget: tuple[int | Literal["none"], ...]

    @property
    def varied(self) -> list[str]:
        """The axes with more than one value."""
        values = {"bits": self.bits, "kv": self.kv, "budget": self.budget}
        return [name for name in self.order if len(values[name]) > 1]

    def points(self) -> list[SweepPoint]:
        """Every combination, grouped by the bits of the weights."""
        combined = product(self.bits or (None,), self.kv or (None,), self.budget or (None,))
        return [SweepPoint(*each) for each in combined]


def parse_axes(words: Sequence[str]) -> SweepAxes:
    """Read words like `kv=16,8`.

    Raises UserError for an unknown axis, an impossible value, or a repeated name.
    """
    texts: dict[str, list[str]] = {}
    for word in " ".join(words).split():
        name, equals, listed = word.partition("=")
        if name not in AXES or not equals:
            raise UserError(
                f"{word!r} is not an axis of a sweep: write bits=3,4,8 kv=16,8,4 budget=256,none."
            )
        if name in texts:
            raise UserError(f"{name} is swept twice: write all its values after one {name}=.")
        texts[name] = list(dict.fromkeys(listed.split(",")))
    return SweepAxes(
        order=tuple(texts),
        bits=tuple(_number("bits", text) for text in texts.get("bits", [])),
        kv=tuple(_number("kv", text) for text in texts.get("kv", [])),
        budget=tuple(
            "none" if text == "none" else _number("budget", text)
            for text in texts.get("budget", [])
        ),
    )


def _number(name: str, text: str) -> int:
    allowed = _ALLOWED.get(name)
    if not (text.isascii() and text.isdecimal()) or (allowed and int(text) not in allowed):
        known = ", ".join(map(str, allowed)) if allowed else "numbers of tokens, or none"
        raise UserError(f"{name}={text} cannot be swept: {name} takes {known}.")
    return int(text)
