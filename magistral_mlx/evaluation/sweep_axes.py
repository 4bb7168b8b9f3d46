"""What a sweep varies: bits=3,4,8 kv=16,8,4 budget=256,1024,none."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from magistral_mlx.errors import UserError

AXES = ("bits", "kv", "budget")
_ALLOWED = {"bits": (2, 3, 4, 5, 6, 8, 16), "kv": (16, 8, 4)}


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One setting of a sweep; None where the sweep leaves it as it is.

    bits: of the weights; kv: of the KV cache; budget: most tokens of reasoning, or "none".
    """

    bits: int | None = None
    kv: int | None = None
    budget: int | Literal["none"] | None = None

    @property
    def name(self) -> str:
        """For a folder."""
        parts = (("weights", self.bits), ("kv", self.kv), ("budget", self.budget))
        return "-".join(f"{name}{value}" for name, value in parts if value is not None) or "plain"


@dataclass(frozen=True, slots=True)
class SweepAxes:
    """The values of each axis; order: of the axes that were named, as they were."""

    order: tuple[str, ...]
    bits: tuple[int, ...]
    kv: tuple[int, ...]
    budget: tuple[int | Literal["none"], ...]

    @property
    def varied(self) -> list[str]:
        """Axes with more than one value."""
        values = {"bits": self.bits, "kv": self.kv, "budget": self.budget}
        return [name for name in self.order if len(values[name]) > 1]

    def points(self) -> list[SweepPoint]:
        """Every combination; those with the same weights come together."""
        combined = product(self.bits or (None,), self.kv or (None,), self.budget or (None,))
        return [SweepPoint(*each) for each in combined]


def parse_axes(words: Sequence[str]) -> SweepAxes:
    """Read `name=value,value…` words.

    Raises UserError for an unknown axis, a value that is none, or a name given twice.
    """
    texts: dict[str, list[str]] = {}
    for word in " ".join(words).split():
        name, equals, listed = word.partition("=")
        if name not in AXES or not equals:
            raise UserError(
                f"{word!r} is no axis of a sweep: write bits=3,4,8 kv=16,8,4 budget=256,none."
            )
        if name in texts:
            raise UserError(f"{name} is swept twice: write all its values after one {name}=.")
        texts[name] = list(dict.fromkeys(listed.split(",")))
    return SweepAxes(
        order=tuple(texts),
        bits=tuple(_number("bits", text) for text in texts.get("bits", [])),
        kv=tuple(_number("kv", text) for text in texts.get("kv", [])),
        budget=tuple(_budget(text) for text in texts.get("budget", [])),
    )


def _budget(text: str) -> int | Literal["none"]:
    return "none" if text == "none" else _number("budget", text)


def _number(name: str, text: str) -> int:
    allowed = _ALLOWED.get(name)
    if not (text.isascii() and text.isdecimal()) or (allowed and int(text) not in allowed):
        known = ", ".join(map(str, allowed)) if allowed else "numbers of tokens, or none"
        raise UserError(f"{name}={text} cannot be swept: {name} takes {known}.")
    return int(text)
