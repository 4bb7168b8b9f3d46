"""What an answer comes to, and whether that is right."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grade:
    """extracted: what the answer comes to, in a form that equal answers share; None: nothing."""

    extracted: str | None
    right: bool
