"""The base of everything that clients send: unknown fields are refused by name."""

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """No field is accepted and ignored, and no value is taken for one of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)
