"""What the demo model can say and be asked, in eight languages of the model card: phrases.json."""

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any


def load_phrases() -> dict[str, "Phrases"]:
    """The phrases by language code."""
    text = resources.files("magistral_mlx.demo").joinpath("phrases.json").read_text("utf-8")
    return {
        language: Phrases(language, **{name: _frozen(value) for name, value in fields.items()})
        for language, fields in json.loads(text).items()
    }


@dataclass(frozen=True, slots=True)
class Phrases:
    """Templates of one language. {a}, {b}, {c} and {n} are numbers of the question, {r} the result.

    ask_* are questions; *_open starts the working of one operation, `conclude` ends it.
    """

    language: str
    places: tuple[str, str, str, str]
    carry: str
    borrow: str
    ask_add: tuple[str, ...]
    ask_subtract: tuple[str, ...]
    ask_multiply: tuple[str, ...]
    ask_compare: tuple[str, ...]
    ask_shop: tuple[str, ...]
    ask_boxes: tuple[str, ...]
    things: tuple[str, ...]
    add_open: str
    subtract_open: str
    multiply_open: str
    compare_open: str
    digits: str
    shop_open: str
    boxes_open: str
    conclude: str
    larger: str
    equal: str
    answer: str
    answer_larger: str
    answer_equal: str
    answer_left: str
    answer_total: str
    greetings: tuple[str, ...]
    greeting_thought: str
    introduction: str


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
