"""Settings: the card's defaults, what is refused, and what is kept."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from magistral_mlx import GenerationOptions
from magistral_mlx.app.panels.settings import (
    KEPT_AS,
    Settings,
    keep_settings,
    load_settings,
    restore_defaults,
)
from magistral_mlx.app.store.store import Store

STORE = Store(None)
CHOSEN = Settings(
    temperature=0.2,
    top_p=0.9,
    min_p=0.05,
    seed=7,
    max_tokens=500,
    thinking_budget=0,
    reasoning="on",
    history="keep",
    system="Sé breve.",
    language="ar",
    chains=3,
)


def test_the_defaults_ask_the_engine_with_the_model_cards_options() -> None:
    assert Settings().options() == GenerationOptions()


def test_every_choice_reaches_the_engine() -> None:
    options = CHOSEN.options()
    sampling = options.sampling
    assert (sampling.temperature, sampling.top_p, sampling.min_p, sampling.seed) == (
        0.2,
        0.9,
        0.05,
        7,
    )
    assert (options.max_tokens, options.thinking_budget) == (500, 0)
    assert (options.reasoning, options.history) == ("on", "keep")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", -1),
        ("seed", -1),
        ("seed", 2**64),
        ("seed", 1.5),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("thinking_budget", -1),
        ("thinking_budget", "100"),
        ("reasoning", "maybe"),
        ("history", None),
        ("language", "tlh"),
        ("language", ["en"]),
        ("chains", 0),
        ("chains", 9),
        ("chains", "2"),
        ("system", None),
        ("system", "x" * 100_001),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=rf"1 validation error for Settings\n{name}\n"):
        Settings(**{name: value})


def test_settings_are_kept_and_reset_but_for_the_language() -> None:
    store = Store(None)
    assert load_settings(store) == Settings()
    keep_settings(store, CHOSEN)
    assert load_settings(store) == CHOSEN
    assert restore_defaults(store) == Settings(language="ar")
    assert load_settings(store) == Settings(language="ar")


def test_settings_of_another_version_are_kept_as_far_as_they_go() -> None:
    store = Store(None)
    older = CHOSEN.model_dump() | {"chains": 99, "colour": "red"}
    del older["top_p"]
    store.keep_value(KEPT_AS, json.dumps(older))
    expected = CHOSEN.model_copy(update={"chains": 1, "top_p": Settings().top_p})
    assert load_settings(store) == expected


@pytest.mark.parametrize("text", ["", "[]", "nonsense", '{"colour": 1}', '{"top_p": 5}'])
def test_text_that_is_no_settings_is_refused_and_not_loaded(text: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate_json(text)
    store = Store(None)
    store.keep_value(KEPT_AS, text)
    assert load_settings(store) == Settings()


@given(
    temperature=st.floats(0, 100),
    top_p=st.floats(0, 1, exclude_min=True),
    seed=st.none() | st.integers(0, 2**64 - 1),
    system=st.text(max_size=50),
)
def test_what_is_allowed_comes_back_from_the_store(
    temperature: float, top_p: float, seed: int | None, system: str
) -> None:
    chosen = Settings(temperature=temperature, top_p=top_p, seed=seed, system=system)
    keep_settings(STORE, chosen)
    assert load_settings(STORE) == chosen
