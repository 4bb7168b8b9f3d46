"""What a measurement gets, and what it gives: tables and figures."""

from collections.abc import Callable
from dataclasses import dataclass

from rich.table import Table

from .models import Models


@dataclass(frozen=True, slots=True)
class Plan:
    """quick: less of everything, and the nano alone. tick: called after every run."""

    models: Models
    quick: bool
    tick: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Result:
    """A table for people, figures for machines."""

    table: Table
    figures: list[dict[str, object]]


def spread_note(rounds: int) -> str:
    """What the brackets of a table mean."""
    if rounds == 1:
        return "one turn"
    return f"medians of {rounds} turns, in brackets the range"
