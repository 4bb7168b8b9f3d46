"""The system prompt: the model card's, with the user's text in it."""

from collections.abc import Sequence

from magistral_mlx.spec import SYSTEM_PROMPT, THINK_CLOSE, THINK_OPEN

_TEMPLATE = "Your thinking process must follow the template below:\n"
_ENDING = "Problem:\n\n"


def compose_system(texts: Sequence[str], *, template: bool = True) -> str:
    """The default prompt with the user's system texts in it.

    They follow the default's own instructions and precede its last line, "Problem:". So the model
    sees the beginning and the ending that it was trained with, prompts with different texts share
    a prefix (and its KV), and if two instructions disagree, the user's comes later.

    Texts with a thinking template of their own are used unchanged as the whole prompt. The default
    prompt among the texts, as clients of the model card send it, is not added a second time.
    `template=False` leaves the thinking template out of the default.
    """
    own = [text for text in texts if text.strip() and not _is_default(text)]
    if any(_has_template(text) for text in own):
        return "\n\n".join(text for text in texts if text.strip())
    instructions = SYSTEM_PROMPT.removesuffix(_ENDING)
    if not template:
        instructions = _without_template(instructions)
    return instructions + "".join(f"{text.strip()}\n\n" for text in own) + _ENDING


def split_default(prompt: str) -> tuple[str, str, str] | None:
    """The parts before, inside and after the thinking template of the default prompt.

    None for other prompts. v13 writes the template with control tokens instead of "<think>".
    """
    before, _, _ = SYSTEM_PROMPT.partition(THINK_OPEN)
    if not prompt.startswith(before + THINK_OPEN):
        return None
    thoughts, _, after = prompt.removeprefix(before + THINK_OPEN).partition(THINK_CLOSE)
    return before, thoughts.strip("\n"), after


def _is_default(text: str) -> bool:
    """Whether a text is the model card's prompt, apart from white space around it."""
    return text.strip() == SYSTEM_PROMPT.strip()


def _has_template(text: str) -> bool:
    tags = ((THINK_OPEN, THINK_CLOSE), ("[THINK]", "[/THINK]"))
    return any(opening in text and closing in text for opening, closing in tags)


def _without_template(prompt: str) -> str:
    before, _, rest = prompt.partition(_TEMPLATE)
    return before + rest.partition(f"{THINK_CLOSE}\n\n")[2]
