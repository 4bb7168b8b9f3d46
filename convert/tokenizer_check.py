"""tekken.json read by mistral-common, the authority for every token."""

from pathlib import Path

from mistral_common.exceptions import TokenizerException
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from magistral_mlx.errors import CheckpointError

SAMPLE = (
    "What is 12 + 30? Quelle est la réponse ? Wieviel ergibt das? Πόσο κάνει; १२ + ३०? "
    "答えは何ですか。답은 무엇입니까? Сколько будет? ما هو الجواب؟ উত্তর কত? 等于多少？\n"
    "<think>\n42\n</think>\n\tx = y² ≠ 🧮👩🏽‍🔬"
)
"""Scripts of the card's languages, the thinking tags, white space and emoji."""


def open_tekken(path: Path, *, vocab_size: int) -> Tekkenizer:
    """Load tekken.json and check it against the embedding's rows.

    Raises CheckpointError when the file is damaged or belongs to another model.
    """
    try:
        tekken = Tekkenizer.from_file(path)
    except (TokenizerException, ValueError, TypeError, KeyError, AssertionError) as error:
        raise CheckpointError(
            f"{path} is not a Tekken vocabulary ({error}): copy it from the original checkpoint."
        ) from error
    if tekken.n_words > vocab_size:
        raise CheckpointError(
            f"{path} has {tekken.n_words:,} tokens and the model {vocab_size:,}: copy the "
            "tekken.json of this model."
        )
    return tekken


def check_round_trip(tekken: Tekkenizer, path: Path) -> list[int]:
    """The ids of a short multilingual text, once they decode to it again."""
    ids = tekken.encode(SAMPLE, bos=False, eos=False)
    if tekken.decode(ids) != SAMPLE:
        raise CheckpointError(
            f"{path} does not decode what it encodes: copy it from the original checkpoint."
        )
    return ids
