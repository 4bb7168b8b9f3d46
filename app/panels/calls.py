"""Functions that the page's script may call on the server, and the check of their arguments."""

from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError

from magistral_mlx.errors import EngineError, UserError

Result = Mapping[str, object]
ServerCall = Callable[[object], Result]


class Form(BaseModel):
    """The arguments of a call; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=4_000_000)


class Nothing(Form):
    """A call without arguments."""


class ConversationForm(Form):
    """A conversation's id."""

    conversation: str


class MessageForm(Form):
    """A message's id."""

    message: str


def server_calls(*answers: Callable[[Any], Result]) -> list[ServerCall]:
    """The script's functions; each is named after one of `answers`, which takes a form."""
    return [_server_call(answer) for answer in answers]


def _server_call(answer: Callable[[Any], Result]) -> ServerCall:
    """Returns {"ok": …}, or {"error": one sentence}."""
    form: type[Form] = next(iter(get_type_hints(answer).values()))

    def call(data: object) -> Result:
        try:
            return {"ok": answer(form.model_validate(data))}
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or answer.__name__
            return {"error": f"{where}: {first['msg']}."}
        except (UserError, EngineError) as error:
            return {"error": str(error)}

    call.__name__ = answer.__name__
    return call
