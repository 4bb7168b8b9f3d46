"""Somebody else who does the same work, in turn with us."""

from dataclasses import dataclass
from typing import Protocol

from magistral_mlx.bench.cases import Case


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second of all streams, and seconds to the first token; None: it does not tell."""

    prefill: float | None = None
    decode: float | None = None
    first_token: float | None = None


class Contender(Protocol):
    """What `--compare` names."""

    name: str

    def refuses(self, case: Case) -> str | None:
        """Why it cannot run a case; None when it can."""

    def warm_up(self, case: Case) -> None:
        """Whatever the first run of such a case would pay for."""

    def run(self, case: Case, *, seed: int) -> Rates:
        """Run the case once, with prompts of that seed. Raises UserError when it fails."""
