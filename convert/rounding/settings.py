"""What the user chooses about a conversion."""

from dataclasses import dataclass
from typing import Literal

from magistral_mlx.convert.rounding.recipe import Recipe
from magistral_mlx.device import DTYPES
from magistral_mlx.errors import CheckpointError

Method = Literal["optimal", "rtn"]
"""How scale and bias of an affine group are chosen: least squared error, or plain rounding."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The recipe and how it is carried out; dtype of scales, biases and norms.

    importance, calibration: digests (hex) of what the errors are weighted with, or of the text
    that the weights are calibrated on.
    """

    recipe: Recipe
    dtype: str
    method: Method
    importance: str | None = None
    calibration: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CheckpointError(
                f"dtype {self.dtype!r} is not supported: choose {', '.join(DTYPES)}."
            )

    def as_json(self) -> dict[str, object]:
        """The settings as journal and manifest record them."""
        return {
            "recipe": self.recipe.name,
            "group_size": self.recipe.group_size,
            "target_bits": self.recipe.target_bits,
            "modules": list(self.recipe.modules),
            "dtype": self.dtype,
            "method": self.method,
            "importance": self.importance,
            "calibration": self.calibration,
        }
