"""What the page begins with, its words, and the user's settings."""

from dataclasses import asdict
from typing import Literal

from magistral_mlx.app.panels.calls import Form, Nothing, Result, ServerCall, server_call
from magistral_mlx.app.panels.services import Services
from magistral_mlx.app.panels.settings import Settings, load_settings, reset_settings, save_settings
from magistral_mlx.app.panels.texts import LANGUAGES, Texts, choose_language, load_texts
from magistral_mlx.spec import VERSION, WINDOW


class Browser(Form):
    """The languages that the browser prefers, as in an Accept-Language header."""

    languages: str = ""


class Chosen(Form):
    """The settings as the panel has them; see `Settings`."""

    temperature: float
    top_p: float
    min_p: float
    seed: int | None
    max_tokens: int | None
    thinking_budget: int | None
    reasoning: Literal["auto", "on", "off"]
    history: Literal["keep", "drop"]
    system: str
    language: str
    chains: int


def settings_calls(services: Services) -> list[ServerCall]:
    """What the page and its settings ask for."""
    store = services.store

    def begin(form: Browser) -> Result:
        settings = load_settings(store)
        texts = load_texts(choose_language(settings.language, form.languages))
        return {
            "texts": texts.words,
            "examples": texts.examples,
            "language": texts.language,
            "rightToLeft": texts.right_to_left,
            "languages": _languages(texts),
            "settings": asdict(settings),
            "defaults": asdict(Settings()),
            "window": WINDOW,
            "version": VERSION,
        }

    def save(form: Chosen) -> Result:
        settings = Settings(**form.model_dump())
        save_settings(store, settings)
        return asdict(settings)

    def reset(form: Nothing) -> Result:
        return asdict(reset_settings(store))

    return [
        server_call("begin", Browser, begin),
        server_call("save_settings", Chosen, save),
        server_call("reset_settings", Nothing, reset),
    ]


def _languages(texts: Texts) -> dict[str, str]:
    """Each language by its own name."""
    return {code: load_texts(code)(f"language_{code}") for code in LANGUAGES}
