"""A conversation as a file: to Markdown and JSON, and back from JSON."""

from magistral_mlx.app.records import Conversation
from magistral_mlx.app.store import Store

MAX_BYTES = 32 << 20
MAX_MESSAGES = 20_000


def to_markdown(store: Store, conversation: str) -> str:
    """The path shown, as a document: reasoning as quotations, answers as they are."""
    raise NotImplementedError


def to_json(store: Store, conversation: str) -> str:
    """The whole tree, for `import_json`."""
    raise NotImplementedError


def import_json(store: Store, data: bytes) -> Conversation:
    """Add a conversation that `to_json` wrote, under new ids.

    Raises UserError, in one sentence, for any other file: nothing is added then.
    """
    raise NotImplementedError


def file_name(conversation: Conversation, suffix: str) -> str:
    """A safe name for the exported file, from the title: "Primes below 60.md"."""
    raise NotImplementedError
