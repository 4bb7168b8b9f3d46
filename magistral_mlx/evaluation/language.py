"""Which of the model card's languages a text is in, by py3langid."""

import re
import unicodedata

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from magistral_mlx.spec import LANGUAGES

LEAST_BYTES = 12
"""Of words in UTF-8: twelve Latin letters, four Chinese ones. With fewer, nothing is said."""

_NOT_PROSE = (
    re.compile(r"```.*?(?:```|\Z)", re.DOTALL),
    re.compile(r"`[^`\n]*`"),
    re.compile(r"\$\$.*?\$\$|\\\[.*?\\\]|\\\(.*?\\\)", re.DOTALL),
    re.compile(r"\$[^$\n]*\$"),
    re.compile(r"\\[a-zA-Z]+"),
)


class LanguageDetector:
    """Decides among the 25 languages alone.

    The identifier is a naive Bayes classifier over byte n-grams (Lui and Baldwin 2012). Indonesian
    and Malay are close: see docs/evaluation.md for how often it takes one for the other.
    """

    def __init__(self) -> None:
        """Load the model that comes in py3langid's wheel."""
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
        self._identifier.set_languages(list(LANGUAGES))

    def detect(self, text: str) -> str | None:
        """The language's code; None when the text has too few words to say."""
        prose = words_of(text)
        if len(prose.encode()) < LEAST_BYTES:
            return None
        code, _ = self._identifier.classify(prose)
        return str(code)


def words_of(text: str) -> str:
    """The text without code, formulas, digits and marks, which are alike in every language."""
    for pattern in _NOT_PROSE:
        text = pattern.sub(" ", text)
    kept = (c if unicodedata.category(c)[0] in "LM" else " " for c in text)
    return " ".join("".join(kept).split())
