"""How long the model may think: effort in words, and in tokens."""

from typing import Literal

from magistral_mlx.text.conversation import Reasoning

Effort = Literal["none", "minimal", "low", "medium", "high"]

BUDGETS: dict[Effort, int | None] = {
    "none": None,
    "minimal": 256,
    "low": 1_024,
    "medium": 4_096,
    "high": None,
}
"""Most tokens of reasoning. "high" leaves it to the window, as when nothing is said."""


def reasoning_mode(effort: Effort | None) -> Reasoning:
    """Whether to think at all."""
    return "off" if effort == "none" else "auto"


def budget(effort: Effort | None) -> int | None:
    """Most tokens of reasoning, or None for what the window holds."""
    return None if effort is None else BUDGETS[effort]
