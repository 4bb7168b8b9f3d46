"""The page's words: whole, alike in all languages, and chosen as the browser asks."""

import json
import re
import string
from importlib.resources import files

import pytest

from magistral_mlx import GenerationOptions, SamplingParams, open_model
from magistral_mlx.app.panels.texts import LANGUAGES, choose_language, load_texts
from magistral_mlx.errors import UserError
from magistral_mlx.events import AnswerText

ENGLISH = load_texts("en")
OTHERS = [language for language in LANGUAGES if language != "en"]
NAMES = {"setting_top_p", "setting_min_p", "mac"}
"""Names and units, which some or all languages write as English does."""
SAME_WORDS = {
    "de": {"demo_model"},
    "fr": {"conversations", "version", "window_total", "tokens", "bits", "bits_column"},
    "es": {"demo_model", "window_total", "tokens", "bits", "bits_column"},
}
UNITS = {"seconds", "minutes", "bytes_per_second", "tokens_per_second", "of_bytes"}
SHORTEST = {"zh": 0.15, "ja": 0.15, "ar": 0.4}
"""Length as a fraction of the English text; half of it in the languages left out."""


def fields(text: str) -> set[tuple[str, str | None, str | None]]:
    """The placeholders with their number formats."""
    parsed = string.Formatter().parse(text)
    return {(name, spec, conversion) for _, name, spec, conversion in parsed if name is not None}


def bare(text: str) -> str:
    return re.sub(r"\{\w+\}", "", text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_keys_in_the_same_order(language: str) -> None:
    assert list(load_texts(language).words) == list(ENGLISH.words)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_has_the_same_fields_and_is_not_empty(language: str) -> None:
    words = load_texts(language).words
    assert {key: fields(text) for key, text in words.items()} == {
        key: fields(text) for key, text in ENGLISH.words.items()
    }
    assert all(text.strip() == text != "" for text in words.values())


def test_every_file_is_a_language_and_names_no_key_twice() -> None:
    found = {}
    for file in (files("magistral_mlx.app") / "texts").iterdir():
        pairs = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=list)
        found[file.name.removesuffix(".json")] = [key for key, _ in pairs]
    assert sorted(found) == sorted(LANGUAGES)
    assert all(len(set(keys)) == len(keys) for keys in found.values())


@pytest.mark.parametrize(
    ("language", "script"), [("zh", "一-鿿"), ("ja", "぀-ヿ一-鿿"), ("ar", "؀-ۿ")]
)
def test_texts_in_other_scripts_are_translated(language: str, script: str) -> None:
    untranslated = {
        key
        for key, text in load_texts(language).words.items()
        if not re.search(f"[{script}]", bare(text))
    }
    assert untranslated <= NAMES | {"of_bytes"}


@pytest.mark.parametrize("language", OTHERS)
def test_no_text_is_left_in_english(language: str) -> None:
    words = load_texts(language).words
    same = {key for key, text in words.items() if text == ENGLISH.words[key]}
    assert same <= NAMES | UNITS | SAME_WORDS.get(language, set())


@pytest.mark.parametrize("language", OTHERS)
def test_numbers_and_percent_signs_are_those_of_the_english_text(language: str) -> None:
    def figures(text: str) -> list[str]:
        return re.findall(r"\d+|%", text.replace("٪", "%"))

    words = load_texts(language).words
    different = {k for k, text in words.items() if figures(text) != figures(ENGLISH.words[k])}
    assert different <= ({"one_chain"} if language == "ar" else set())


@pytest.mark.parametrize("language", OTHERS)
def test_sentences_end_as_in_english(language: str) -> None:
    def end(text: str) -> str:
        found = re.search(r"[.。?？؟…]", text[-1:])
        return {"。": ".", "？": "?", "؟": "?"}.get(found[0], found[0]) if found else ""

    words = load_texts(language).words
    assert {key: end(text) for key, text in words.items()} == {
        key: end(text) for key, text in ENGLISH.words.items()
    }


@pytest.mark.parametrize("language", OTHERS)
def test_texts_are_about_as_long_as_the_english_ones(language: str) -> None:
    words = load_texts(language).words
    least = SHORTEST.get(language, 0.5)
    for key, english in ENGLISH.words.items():
        if len(english) >= 15:
            assert least <= len(bare(words[key])) / len(bare(english)) <= 2.2, (key, words[key])


def test_no_text_speaks_of_nano() -> None:
    for language in LANGUAGES:
        assert "nano" not in " ".join(load_texts(language).words.values()).lower()


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_names_all_of_them(language: str) -> None:
    assert {f"language_{code}" for code in ("auto", *LANGUAGES)} <= set(load_texts(language).words)


def test_fields_are_filled_in_and_wrong_names_are_an_error() -> None:
    assert ENGLISH("tokens", count="1,204") == "1,204 tokens"
    with pytest.raises(KeyError):
        ENGLISH("no such key")
    with pytest.raises(KeyError):
        ENGLISH("tokens", number=3)


def test_only_arabic_is_laid_out_from_the_right() -> None:
    assert [code for code in LANGUAGES if load_texts(code).right_to_left] == ["ar"]


@pytest.mark.parametrize(
    ("setting", "header", "language"),
    [
        ("auto", "fr-CH, fr;q=0.9, en;q=0.8", "fr"),
        ("auto", "pt-BR,pt;q=0.9,es;q=0.4,en;q=0.3", "es"),
        ("auto", "en;q=0.1, ja;q=0.7", "ja"),
        ("auto", "de;q=0, en", "en"),
        ("auto", "ZH-tw", "zh"),
        ("auto", "tlh, *;q=0.5", "en"),
        ("auto", ";;q=,de;q=x,,", "en"),
        ("auto", "", "en"),
        ("auto", None, "en"),
        ("ar", "fr", "ar"),
        ("tlh", "fr", "fr"),
    ],
)
def test_the_language_is_the_users_or_the_browsers(
    setting: str, header: str | None, language: str
) -> None:
    assert choose_language(setting, header) == language


def test_another_language_is_refused_not_looked_for() -> None:
    with pytest.raises(UserError, match=r"no page in '\.\./secret'"):
        load_texts("../secret")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_answers_the_examples_of_every_language() -> None:
    options = GenerationOptions(sampling=SamplingParams(temperature=0))
    with open_model("demo", window=1_024) as model:
        streams = {  # all at once: batched, they take half the time
            code: [model.stream(example, options) for example in load_texts(code).examples]
            for code in LANGUAGES
        }
        for code, three in streams.items():
            answers = [
                "".join(event.text for event in stream if isinstance(event, AnswerText))
                for stream in three
            ]
            found = [n in text for n, text in zip(("132", "252", "512"), answers, strict=True)]
            assert all(found), (code, answers)
