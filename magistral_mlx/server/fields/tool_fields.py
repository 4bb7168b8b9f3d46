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

from magistral_mlx.server.fields.strict_model import StrictModel

ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionFields(StrictModel):
    """A function that the model may call; strict ones get arguments that fit the schema."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None

    def tool(self) -> Tool:
        """As mistral-common takes it."""
        return make_tool(self.name, self.description, self.parameters, strict=bool(self.strict))


class ToolFields(StrictModel):
    """A tool; only functions are supported."""

    type: Literal["function"]
    function: FunctionFields


class ChosenFunction(StrictModel):
    """The name of a tool."""

    name: str


class NamedChoice(StrictModel):
    """The tool that must be called."""

    type: Literal["function"]
    function: ChosenFunction


ToolChoiceField = Literal["none", "auto", "required"] | NamedChoice


def make_tool(
    name: str, description: str | None, parameters: dict[str, object] | None, *, strict: bool
) -> Tool:
    """A tool for the prompt and for the grammar."""
    function = Function(
        name=name, description=description or "", parameters=parameters or {}, strict=strict
    )
    return Tool(function=function)


def tool_choice(field: ToolChoiceField | None) -> ToolChoice:
    """Whether and what to call."""
    if isinstance(field, NamedChoice):
        return named_choice(field.function.name)
    return ToolChoiceEnum(field or "auto")


def named_choice(name: str) -> NamedToolChoice:
    """That this tool must be called."""
    return NamedToolChoice(function=FunctionName(name=name))


OptionalTools = Annotated[list[ToolFields], Field(max_length=512)] | None
