"""Tools as OpenAI's clients send them."""

from typing import Annotated, Literal

from mistral_common.protocol.instruct.tool_calls import (
    Function,
    FunctionName,
    NamedToolChoice,
    Tool,
    ToolChoice,
    ToolChoiceEnum,
)
from pydantic import Field, StringConstraints

from magistral_mlx.server.fields.strict_model import Items, StrictModel

ToolName = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionFields(StrictModel):
    """A function that the model may call; with `strict`, its arguments fit the schema."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None

    def tool(self) -> Tool:
        """As mistral-common represents it."""
        return make_tool(self.name, self.description, self.parameters, strict=bool(self.strict))


class ToolFields(StrictModel):
    """A tool; only functions are supported."""

    type: Literal["function"]
    function: FunctionFields


class FlatChoice(StrictModel):
    """The tool that must be called, as in /v1/responses."""

    type: Literal["function"]
    name: str


class ChosenFunction(StrictModel):
    """The name of a tool."""

    name: str


class NamedChoice(StrictModel):
    """The tool that must be called."""

    type: Literal["function"]
    function: ChosenFunction


OptionalTools = Annotated[Items[ToolFields], Field(max_length=512)] | None
ToolChoiceField = Literal["none", "auto", "required"] | NamedChoice


def make_tool(
    name: str, description: str | None, parameters: dict[str, object] | None, *, strict: bool
) -> Tool:
    """A tool for the prompt and for the grammar."""
    function = Function(
        name=name, description=description or "", parameters=parameters or {}, strict=strict
    )
    return Tool(function=function)


def tool_choice(field: str | NamedChoice | FlatChoice | None) -> ToolChoice:
    """Whether to call a tool, and which one."""
    match field:
        case NamedChoice():
            return named_choice(field.function.name)
        case FlatChoice():
            return named_choice(field.name)
    return ToolChoiceEnum(field or "auto")


def named_choice(name: str) -> NamedToolChoice:
    """This tool must be called."""
    return NamedToolChoice(function=FunctionName(name=name))
