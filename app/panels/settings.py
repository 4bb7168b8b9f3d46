"""What the user chooses on the page; the defaults are the model card's."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args

from magistral_mlx.app.panels.texts import LANGUAGES
from magistral_mlx.app.runs.registry import MAX_CHAINS
from magistral_mlx.app.store.records import is_whole
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import UserError
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.spec import TEMPERATURE, TOP_P
from magistral_mlx.text.conversation import History, Reasoning

KEPT_AS = "settings"
MAX_SYSTEM = 100_000


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

    def __post_init__(self) -> None:
        self._sampling()  # refuses what it cannot draw with
        _check_count("max_tokens", self.max_tokens, least=1)
        _check_count("thinking_budget", self.thinking_budget, least=0)
        _check_choice("reasoning", self.reasoning, get_args(Reasoning))
        _check_choice("history", self.history, get_args(History))
        _check_choice("language", self.language, ("auto", *LANGUAGES))
        if not is_whole(self.chains) or not 1 <= self.chains <= MAX_CHAINS:
            raise UserError(f"chains is {self.chains!r}: choose 1 to {MAX_CHAINS}.")
        if not isinstance(self.system, str) or len(self.system) > MAX_SYSTEM:
            raise UserError(f"system must be a text of at most {MAX_SYSTEM:,} characters.")

    def options(self) -> GenerationOptions:
        """What the engine is asked with."""
        return GenerationOptions(
            sampling=self._sampling(),
            max_tokens=self.max_tokens,
            thinking_budget=self.thinking_budget,
            reasoning=self.reasoning,
            history=self.history,
        )

    def to_json(self) -> str:
        """Text for `settings_from_json`."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def _sampling(self) -> SamplingParams:
        return SamplingParams(
            temperature=self.temperature, top_p=self.top_p, min_p=self.min_p, seed=self.seed
        )


def settings_from_json(text: str) -> Settings:
    """Read what `to_json` wrote. Raises UserError for anything else."""
    data = _object(text)
    names = {field.name for field in fields(Settings)}
    if unknown := sorted(data.keys() - names):
        raise UserError(f"There is no setting {unknown[0]!r}: use {', '.join(sorted(names))}.")
    values: dict[str, Any] = dict(data)
    return Settings(**values)


def load_settings(store: Store) -> Settings:
    """The user's settings; a value that is not allowed, or no longer, falls back to its default."""
    settings = Settings()
    text = store.value(KEPT_AS)
    if text is None:
        return settings
    try:
        data = _object(text)
    except UserError:
        return settings
    for field in fields(Settings):
        if field.name in data:
            settings = _with(settings, field.name, data[field.name])
    return settings


def save_settings(store: Store, settings: Settings) -> None:
    """Keep them for the next time."""
    store.keep_value(KEPT_AS, settings.to_json())


def reset_settings(store: Store) -> Settings:
    """Forget them; returns the card's, with the language as it was."""
    settings = Settings(language=load_settings(store).language)
    save_settings(store, settings)
    return settings


def _with(settings: Settings, name: str, value: object) -> Settings:
    changed: dict[str, Any] = {name: value}
    try:
        return replace(settings, **changed)
    except UserError:
        return settings


def _object(text: str) -> Mapping[str, object]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError("These are no settings: they are not JSON.") from error
    if not isinstance(data, dict):
        raise UserError("These are no settings: they are not a JSON object.")
    return data


def _check_count(name: str, value: object, *, least: int) -> None:
    if value is not None and (not is_whole(value) or value < least):
        raise UserError(
            f"{name} is {value!r}: choose a whole number from {least}, or none for no limit."
        )


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name} is {value!r}: choose one of {', '.join(allowed)}.")
