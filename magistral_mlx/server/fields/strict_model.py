"""The base of all request bodies: unknown fields are refused by name."""

from functools import partial
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

MAX_FIELDS, MAX_ENTRIES = 100, 10_000
"""Of an object with known fields, and of one with the client's keys. Pydantic reports every wrong
entry, which takes longer than reading them."""

T = TypeVar("T")

Items = Annotated[list[T], Field(fail_fast=True)]
"""A list of which only the first wrong element is reported."""


class StrictModel(BaseModel):
    """No field is accepted and ignored, and no value is taken for one of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, fields: object) -> object:
        return _at_most(MAX_FIELDS, fields)


def _at_most(limit: int, entries: object) -> object:
    if isinstance(entries, dict) and len(entries) > limit:
        raise ValueError(f"{len(entries):,} entries; the limit is {limit:,}")
    return entries


Entries = Annotated[dict[str, T], BeforeValidator(partial(_at_most, MAX_ENTRIES))]
"""An object whose keys the client chooses."""


def _no(value: bool) -> bool:
    if value:
        raise ValueError("only false is supported")
    return value


No = Annotated[bool, AfterValidator(_no), WithJsonSchema({"const": False})]
"""A switch that must be off. Literal[False] would accept 0.0 too."""

Empty = Annotated[Items[None], Field(max_length=0)]
"""A list that clients send back as they got it: empty."""
