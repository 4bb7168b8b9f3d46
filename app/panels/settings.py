"""The user's settings, whose defaults are the model card's, and what the page starts with."""

import json
from typing import Annotated

from pydantic import Field, TypeAdapter

from magistral_mlx.app.panels.calls import Form, Nothing, Result, ServerCall, server_calls
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.panels.texts import (
    LANGUAGES,
    LanguageSetting,
    choose_language,
    load_texts,
)
from magistral_mlx.app.runs.registry import MAX_CHAINS
from magistral_mlx.app.store.records import valid_fields
from magistral_mlx.app.store.store import Store
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import MAX_SEED, MAX_TEMPERATURE, SamplingParams
from magistral_mlx.spec import TEMPERATURE, TOP_P, VERSION, WINDOW
from magistral_mlx.text.conversation import History, Reasoning

KEPT_AS = "settings"

_Whole = Annotated[int, Field(strict=True)]
_Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Settings(Form):
    """Choices for the next answers. Raises ValidationError for an invalid value.

    max_tokens, thinking_budget: None for no limit but the window.
    system: the user's text, added to the system prompt.
    language: of the page: "auto" follows the browser; else a code of texts.LANGUAGES.
    chains: number of answers written in parallel.
    """

    temperature: Annotated[_Real, Field(ge=0, le=MAX_TEMPERATURE)] = TEMPERATURE
    top_p: Annotated[_Real, Field(gt=0, le=1)] = TOP_P
    min_p: Annotated[_Real, Field(ge=0, le=1)] = 0.0
    seed: Annotated[_Whole, Field(ge=0, le=MAX_SEED)] | None = None
    max_tokens: Annotated[_Whole, Field(ge=1, lt=2**63)] | None = None
    thinking_budget: Annotated[_Whole, Field(ge=0, lt=2**63)] | None = None
    reasoning: Reasoning = "auto"
    history: History = "drop"
    system: Annotated[str, Field(max_length=100_000)] = ""
    language: LanguageSetting = "auto"
    chains: Annotated[_Whole, Field(ge=1, le=MAX_CHAINS)] = 1

    def options(self) -> GenerationOptions:
        """The settings as options of a request."""
        return GenerationOptions(
            sampling=SamplingParams(
                temperature=self.temperature, top_p=self.top_p, min_p=self.min_p, seed=self.seed
            ),
            max_tokens=self.max_tokens,
            thinking_budget=self.thinking_budget,
            reasoning=self.reasoning,
            history=self.history,
        )


class BrowserForm(Form):
    """The languages that the browser prefers, as in an Accept-Language header."""

    languages: str = ""


def settings_calls(services: Services) -> list[ServerCall]:
    """The calls of the page as it starts, and of its settings."""
    store = services.store

    def begin(form: BrowserForm) -> Result:
        settings = load_settings(store)
        texts = load_texts(choose_language(settings.language, form.languages))
        return {
            "texts": texts.words,
            "examples": texts.examples,
            "language": texts.language,
            "rightToLeft": texts.right_to_left,
            "languages": {code: load_texts(code)(f"language_{code}") for code in LANGUAGES},
            "settings": settings.model_dump(),
            "defaults": Settings().model_dump(),
            "window": WINDOW,
            "version": VERSION,
        }

    def save_settings(settings: Settings) -> Result:
        keep_settings(store, settings)
        return settings.model_dump()

    def reset_settings(form: Nothing) -> Result:
        return restore_defaults(store).model_dump()

    return server_calls(begin, save_settings, reset_settings)


def load_settings(store: Store) -> Settings:
    """The user's settings; values that are invalid, or no longer valid, get their defaults."""
    try:
        data = json.loads(store.value(KEPT_AS) or "{}")
    except (ValueError, RecursionError):
        return Settings()
    return valid_fields(TypeAdapter(Settings), data) if isinstance(data, dict) else Settings()


def keep_settings(store: Store, settings: Settings) -> None:
    """Keep the settings in the store."""
    store.keep_value(KEPT_AS, json.dumps(settings.model_dump(), ensure_ascii=False))


def restore_defaults(store: Store) -> Settings:
    """Restore the model card's settings, except for the language, and return them."""
    settings = Settings(language=load_settings(store).language)
    keep_settings(store, settings)
    return settings
