"""Hugging Face chat templates: messages to text, rendered as transformers renders them."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from magistral_mlx.errors import CheckpointError, RequestError


class ChatTemplate:
    """The compiled template of a checkpoint."""

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        """special: the special tokens by role: bos_token, eos_token and so on.

        Raises CheckpointError if the template is damaged.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, "jinja2.ext.loopcontrols"],
        )
        # Jinja's own filter escapes HTML characters.
        environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        self.source = source
        self._special = dict(special)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise CheckpointError(
                f"The chat template is damaged ({error}): download the checkpoint again."
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
    ) -> str:
        """The prompt for the assistant's next answer, or up to a last assistant message's end.

        Raises RequestError if the template refuses the messages.
        """
        begins = bool(messages) and messages[-1]["role"] == "assistant"
        try:
            text = self._template.render(
                messages=messages, tools=tools, add_generation_prompt=not begins, **self._special
            )
        except (TemplateError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise RequestError(f"The messages cannot be made into a prompt: {reason}.") from error
        return _cut(text, str(messages[-1]["content"] or "").strip()) if begins else text


def _cut(text: str, beginning: str) -> str:
    """The prompt up to the end of the answer to continue."""
    return text[: text.rindex(beginning) + len(beginning)] if beginning in text else text


def _refuse(message: str) -> str:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


class _Generation(Extension):
    """{% generation %} marks the assistant's text for training; it is ignored here."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
