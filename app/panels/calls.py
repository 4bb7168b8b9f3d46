"""Functions that the page's script may call on the server, and the check of their arguments."""

from collections.abc import Callable, Mapping
from typing import TypeVar

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


FormType = TypeVar("FormType", bound=Form)


def server_call(
    name: str, form: type[FormType], answer: Callable[[FormType], Result]
) -> ServerCall:
    """A function `name` for the script: returns {"ok": …}, or {"error": one sentence}."""

    def call(data: object) -> Result:
        try:
            return {"ok": answer(form.model_validate(data))}
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or name
            return {"error": f"{where}: {first['msg']}."}
        except (UserError, EngineError) as error:
            return {"error": str(error)}

    call.__name__ = name
    return call
