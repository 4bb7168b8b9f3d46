"""The page's words, in the languages of the files in texts/."""

from dataclasses import dataclass

LANGUAGES = ("en", "fr", "de", "es", "zh", "ja", "ar")
RIGHT_TO_LEFT = frozenset({"ar", "fa", "he", "ur"})


@dataclass(frozen=True, slots=True)
class Texts:
    """All words in one language. `texts("send")`, `texts("tokens", count="1,204")`."""

    language: str
    words: dict[str, str]

    def __call__(self, key: str, /, **fields: object) -> str:
        """The text, with its fields filled in. Raises KeyError for an unknown key or field."""
        raise NotImplementedError

    @property
    def right_to_left(self) -> bool:
        """Whether the page is laid out from right to left."""
        return self.language in RIGHT_TO_LEFT

    @property
    def examples(self) -> tuple[str, str, str]:
        """Three questions that the demo model can answer."""
        raise NotImplementedError


def load_texts(language: str) -> Texts:
    """The words in a language of LANGUAGES. Raises UserError for another."""
    raise NotImplementedError


def choose_language(setting: str, accept_language: str | None) -> str:
    """The user's setting, or for "auto" the best match of the browser's Accept-Language header."""
    raise NotImplementedError
