"""What the user chooses on the page; the defaults are the model card's."""

from dataclasses import dataclass

from magistral_mlx.app.store import Store
from magistral_mlx.conversation import History, Reasoning
from magistral_mlx.options import GenerationOptions
from magistral_mlx.spec import TEMPERATURE, TOP_P


@dataclass(frozen=True, slots=True)
class Settings:
    """Choices that hold for the next answer. Raises UserError for a value that is refused.

    max_tokens, thinking_budget: None for no limit but the window.
    system: text of the user's own, added to the system prompt.
    language: of the page: "auto" follows the browser; else a code of texts.LANGUAGES.
    chains: how many answers to think of side by side (1 to 8).
    """

    temperature: float = TEMPERATURE
    top_p: float = TOP_P
    min_p: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    thinking_budget: int | None = None
    reasoning: Reasoning = "auto"
    history: History = "drop"
    system: str = ""
    language: str = "auto"
    chains: int = 1

    def options(self) -> GenerationOptions:
        """What the engine is asked with."""
        raise NotImplementedError

    def to_json(self) -> str:
        """Text for `settings_from_json`."""
        raise NotImplementedError


def settings_from_json(text: str) -> Settings:
    """Read what `to_json` wrote. Raises UserError for anything else."""
    raise NotImplementedError


def load_settings(store: Store) -> Settings:
    """The user's settings; a value that is no longer allowed falls back to its default."""
    raise NotImplementedError


def save_settings(store: Store, settings: Settings) -> None:
    """Keep them for the next time."""
    raise NotImplementedError


def reset_settings(store: Store) -> Settings:
    """Forget them; returns the card's, with the language as it was."""
    raise NotImplementedError
