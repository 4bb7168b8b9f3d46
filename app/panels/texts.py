"""The page's words, in the languages of the files in texts/."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, get_args

from magistral_mlx.errors import UserError

Language = Literal["en", "fr", "de", "es", "zh", "ja", "ar"]
LanguageSetting = Literal["auto", Language]
LANGUAGES: tuple[str, ...] = get_args(Language)


@dataclass(frozen=True, slots=True)
class Texts:
    """All words in one language. `texts("send")`, `texts("tokens", count="1,204")`."""

    language: str
    words: Mapping[str, str]

    def __call__(self, key: str, /, **fields: object) -> str:
        """The text, with its fields filled in. Raises KeyError for an unknown key or field."""
        return self.words[key].format_map(fields)

    @property
    def right_to_left(self) -> bool:
        """Whether the page is laid out from right to left."""
        return self.language == "ar"

    @property
    def examples(self) -> tuple[str, str, str]:
        """Three questions that the demo model can answer."""
        return self("example_1"), self("example_2"), self("example_3")


def load_texts(language: str) -> Texts:
    """The words in a language of LANGUAGES. Raises UserError for another."""
    if language not in LANGUAGES:
        raise UserError(f"There is no page in {language!r}: use one of {', '.join(LANGUAGES)}.")
    file = files("magistral_mlx.app") / "texts" / f"{language}.json"
    words: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return Texts(language, words)


def choose_language(setting: str, accept_language: str | None) -> str:
    """The setting, or for "auto" the first match in the browser's Accept-Language header."""
    if setting in LANGUAGES:
        return setting
    for tag in _preferred(accept_language or ""):
        base = tag.partition("-")[0]
        if base in LANGUAGES:
            return base
    return LANGUAGES[0]


def _preferred(header: str) -> list[str]:
    """The header's tags in lower case, the highest weight first."""
    weights: dict[str, float] = {}
    for part in header.lower().split(","):
        tag, _, quality = part.strip().partition(";")
        weights.setdefault(tag.strip(), _weight(quality.strip()))
    return sorted((tag for tag in weights if weights[tag] > 0), key=lambda tag: -weights[tag])


def _weight(quality: str) -> float:
    """The number of "q=0.8"; 1 without one, 0 if it is malformed."""
    try:
        return float(quality.removeprefix("q=") or 1)
    except ValueError:
        return 0.0
