"""The base of everything that clients send: unknown fields are refused by name."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, WithJsonSchema


class StrictModel(BaseModel):
    """No field is accepted and ignored, and no value is taken for one of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _no(value: bool) -> bool:
    if value:
        raise ValueError("only false is supported")
    return value


No = Annotated[bool, AfterValidator(_no), WithJsonSchema({"const": False})]
"""A switch that may not be on. Literal[False] would take 0.0 as well."""
