"""The page's words, in the languages of the files in texts/."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from magistral_mlx.errors import UserError

LANGUAGES = ("en", "fr", "de", "es", "zh", "ja", "ar")
RIGHT_TO_LEFT = frozenset({"ar", "fa", "he", "ur"})


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
        return self.language in RIGHT_TO_LEFT

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
    """The user's setting, or for "auto" the best match of the browser's Accept-Language header."""
    if setting in LANGUAGES:
        return setting
    for tag in _preferred(accept_language or ""):
        base = tag.partition("-")[0]
        if base in LANGUAGES:
            return base
    return LANGUAGES[0]


def _preferred(header: str) -> list[str]:
    """The header's tags in lower case, the most wanted first."""
    wanted: list[tuple[float, str]] = []
    for part in header.lower().split(","):
        tag, _, quality = part.strip().partition(";")
        weight = _weight(quality)
        if weight > 0:
            wanted.append((weight, tag.strip()))
    return [tag for _, tag in sorted(wanted, key=lambda pair: -pair[0])]


def _weight(quality: str) -> float:
    """The number of "q=0.8"; 1 where there is none, 0 for nonsense."""
    text = quality.strip()
    if not text:
        return 1.0
    try:
        return float(text.removeprefix("q="))
    except ValueError:
        return 0.0
