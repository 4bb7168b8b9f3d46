"""Figures that others, or we, have stated, to stand beside those that are measured."""

from dataclasses import dataclass

from magistral_mlx.spec import HUB_ID


@dataclass(frozen=True, slots=True)
class Published:
    """A share of right answers, from 0 to 1; of which model, and where it is stated."""

    model: str
    value: float
    source: str


_CARD = f"model card of {HUB_ID}, pass@1"
_DEMO = "magistral_mlx/demo/README.md, 500 questions, greedy, 4-bit weights"

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "demo": (Published("nano", 0.998, _DEMO),),
    "aime24": (
        Published("Magistral Small", 0.7068, _CARD),
        Published("Magistral Medium", 0.7359, _CARD),
    ),
    "aime25": (
        Published("Magistral Small", 0.6276, _CARD),
        Published("Magistral Medium", 0.6495, _CARD),
    ),
    "gpqa-diamond": (
        Published("Magistral Small", 0.6818, _CARD),
        Published("Magistral Medium", 0.7083, _CARD),
    ),
}
"""By the name of the set. LiveCodeBench v5 (55.84 and 59.36) runs code: see docs/evaluation.md."""
